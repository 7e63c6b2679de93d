//! Probing: what can be read off a model's states by a straight line.

mod logistic;
mod scores;

pub use logistic::{Solution, logistic};
pub use scores::{auc, standardised};
