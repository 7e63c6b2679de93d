//! What a trace needs, in the order data flows: each room knows only those above it.

pub mod tensor;
pub mod weights;
pub mod text;
pub mod hub;
pub mod arch;
pub mod model;
pub mod intervention;
pub mod trace;
