//! Arrays, lazy operators, dtypes, devices and threads, DLPack.
//!
//! The only room that names MLX. Handles are [`mlx_rs::Array`]s; operators are built on the same C layer that mlx-rs
//! calls, because three things must be said on every call that mlx-rs cannot say yet: a stream that any thread may
//! use, quantisation modes, and the text of the error.
#![allow(unsafe_code)]

mod array;
mod division;
mod dlpack;
mod dtype;
mod engine;
mod gated;
mod gather;
mod gradient;
mod graph;
mod ops;
mod platform;
mod quant;
#[cfg(test)]
mod tests;

pub use array::{Array, Element, Owner};
pub use division::{floor_div, remainder};
pub use dlpack::{DLManagedTensorVersioned, from_dlpack, to_dlpack};
pub use dtype::Dtype;
pub use engine::{
    BeforeEval, Gate, backend, gate, memory_used, on_eval, packed_products_are_sound_and_fast, peak_memory,
    reset_peak_memory, uses_cpu,
};
pub use gated::Gated;
pub use gather::{gather_matmul, gather_quantized_matmul, put_along};
pub use gradient::value_and_gradients;
pub use graph::{graph_dot, graph_size};
pub use ops::*;
pub use quant::{Quantization, dequantize, gather_quantized, quantize, quantized_matmul};
