//! Distributed alignment search (Geiger et al. 2023, "Finding alignments between interpretable causal variables and
//! distributed neural representations"): the subspace of a state that carries a variable, learnt by exchanging it.
//!
//! For pairs of prompts one says what the model would answer to the base prompt if it had the source prompt's value of the
//! variable. A rotation is learnt such that exchanging the state's part in a few of its directions makes the model say so.

mod rotation;
mod train;

pub use rotation::frame;
pub use train::{Accuracies, Das, DasOptions, das};
