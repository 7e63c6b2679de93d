//! Activation patching, causal tracing and path patching: a value of one run put into another, and what the answer makes
//! of it.
//!
//! All three ask thousands of nearly equal runs. So nothing here runs one forward a cell: what a patch cannot change is
//! shared (layers below it, positions before it), the rest runs as rows of batches, and a cell of which the tape shows
//! that the patch cannot be seen, or that it restores everything, is not run at all.

mod cells;
mod difference;
mod forks;
mod grid;
mod known;
mod measure;
mod options;
mod pairs;
mod place;
mod staircase;
mod sweep;

pub use grid::{PairScore, PatchingGrid, activation_patching, activation_patching_told};
pub use measure::{Distance, DistanceKind, DistanceOf, Measure};
pub use options::{Align, Component, Direction, PatchingAxis, PatchingOptions, Sharing};
