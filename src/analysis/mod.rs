//! What parts of a model do for an answer: experiments that change a run and measure what comes of it.

pub mod patching;
