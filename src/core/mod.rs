//! What a trace needs, in the order data flows: each room knows only those above it.

pub mod arch;
pub mod generation;
pub mod hub;
pub mod intervention;
pub mod model;
pub mod tensor;
pub mod text;
pub mod trace;
pub mod weights;
