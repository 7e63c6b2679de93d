//! What a model's inside means: lenses now; patching, probing, steering and sparse autoencoders build on the same traces.

pub mod das;
pub mod harvest;
pub mod lens;
pub mod probing;
pub mod steering;
