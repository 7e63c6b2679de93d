//! Bytes on disk to named tensors: safetensors directories and GGUF files, memory-mapped and distrusted.

mod checkpoint;
pub mod dequantise;
mod directory;
pub mod ggml;
pub mod gguf;
pub mod gguf_model;
mod mapping;
pub mod metadata;
mod raw;
mod reader;
pub mod repack;
mod safetensors;
pub mod store;
#[cfg(test)]
mod testing;

pub use checkpoint::Checkpoint;
pub use raw::{RawDtype, RawTensor};
