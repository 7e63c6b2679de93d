//! What depends on what inside a model: attribution, circuits.

pub mod attribution;
pub mod circuits;
