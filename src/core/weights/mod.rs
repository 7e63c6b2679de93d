//! Bytes on disk to named tensors: safetensors directories and GGUF files, memory-mapped and distrusted.

pub mod ggml;
pub mod gguf;
pub mod metadata;
mod reader;
