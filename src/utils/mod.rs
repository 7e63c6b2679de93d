//! What several rooms share: grids with named axes, metrics, and what a result can do.

mod activations;
mod dataset;
mod finding;
mod grid;
pub mod linear;
mod metric;
mod optimiser;
mod position;
mod progress;
mod random;

pub use activations::{Activations, Pick, activations, by_position, in_batches};
pub use dataset::{Document, Documents};
pub use finding::Finding;
pub use grid::{Axis, Grid};
pub use metric::{Metric, Prepared, Token, Tokens};
pub use optimiser::{Moments, Optimiser};
pub use position::Position;
pub use progress::{Progress, tell};
pub use random::Random;
