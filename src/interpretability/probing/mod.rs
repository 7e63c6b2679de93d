//! Probing: what can be read off a model's states by a straight line, and whether that says more than chance would.
//!
//! - [`probe`]: on given rows; [`probe_sweep`]: over layers and positions, each text run once
//! - [`Probe`]: the line itself; [`Probes`]: lines by site and position, kept in files

mod files;
mod logistic;
mod probe;
mod scores;
mod split;
mod study;
mod sweep;

pub use files::Probes;
pub use logistic::{Solution, logistic};
pub use probe::{Fit, Kind, Probe};
pub use scores::{Scores, auc, standardised};
pub use split::{Parts, folds, split};
pub use study::{Controlled, Studied, Study, probe};
pub use sweep::{Sweep, Swept, Target, probe_sweep};
