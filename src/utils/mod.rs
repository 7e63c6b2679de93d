//! What several rooms share: grids with named axes, metrics, and what a result can do.

mod finding;
mod grid;
mod metric;
mod progress;

pub use finding::Finding;
pub use grid::{Axis, Grid};
pub use metric::{Metric, Prepared, Token, Tokens};
pub use progress::{Progress, tell};
