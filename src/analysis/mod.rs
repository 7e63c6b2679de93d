//! What depends on what inside a model: attention, attribution, circuits, patching.

pub mod attention;
pub mod attribution;
pub mod circuits;
pub mod patching;
