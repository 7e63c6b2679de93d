//! Activation patching, causal tracing and path patching: a value of one run put into another, and what the answer makes
//! of it.
//!
//! All three ask thousands of nearly equal runs. So nothing here runs one forward a cell: what a patch cannot change is
//! shared (layers below it, positions before it), the rest runs as rows of batches, and a cell of which the tape shows
//! that the patch cannot be seen, or that it restores everything, is not run at all.

mod causal;
mod cells;
mod difference;
mod forks;
mod grid;
mod known;
mod measure;
mod options;
mod pairs;
mod path;
mod place;
mod receivers;
mod scores;
mod staircase;
mod subject;
mod sweep;

pub use causal::{CausalTrace, CausalTracingOptions, causal_tracing, causal_tracing_told};
pub use grid::{PatchingGrid, activation_patching, activation_patching_told};
pub use measure::{Distance, DistanceKind, DistanceOf, Measure};
pub use options::{Align, Component, Direction, PatchingAxis, PatchingOptions, Sharing};
pub use path::{Between, PathPatch, PathPatchingOptions, Senders, path_patching, path_patching_told};
pub use receivers::{Receiver, ReceiverInput};
pub use scores::PairScore;
pub use subject::Subject;
