//! What depends on what inside a model: attention, attribution, circuits.

pub mod attention;
pub mod attribution;
pub mod circuits;
