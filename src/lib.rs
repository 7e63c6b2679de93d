//! Look inside language models and change what happens there, on Apple's MLX.
//!
//! The house, room by room:
//! - [`core`]: what a trace needs — tensors, weights, text, hub, architecture descriptions, models, interventions, traces
//! - [`analysis`]: what depends on what — attention, attribution, patching, circuits
//! - [`interpretability`]: what the inside means — lenses, steering, probing, alignment search, harvests
//! - [`visualization`]: pages and figures from results
//! - [`toolkit`]: every analysis by name, for the front ends
//! - [`utils`]: grids with named axes, metrics, what a result can do
//! - [`ffi`]: the doors of the C ABI
//! - `bin/mlxterp`: the command line
//!
//! ```no_run
//! use mlxterp::core::model::Model;
//! let model = Model::load("path-or-id")?;
//! let trace = model.trace("The capital of France is")?;
//! let attention = trace.get("layers.3.attn.output")?;  // lazy: nothing has been computed
//! trace.set("layers.8.mlp.output", &mlxterp::core::tensor::zeros_like(&trace.get("layers.8.mlp.output")?)?)?;
//! let logits = trace.output()?.to_vec::<f32>()?;       // computed here
//! # Ok::<(), mlxterp::Error>(())
//! ```

pub mod analysis;
pub mod core;
pub mod error;
pub mod ffi;
pub mod interpretability;
pub mod toolkit;
pub mod utils;
pub mod visualization;

pub use error::{Error, ErrorKind, Result};
