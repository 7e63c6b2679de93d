//! Look inside language models and change what happens there, on Apple's MLX.

pub mod core;
pub mod error;

pub use error::{Error, ErrorKind, Result};
