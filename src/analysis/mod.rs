//! What depends on what inside a model.

pub mod attention;
