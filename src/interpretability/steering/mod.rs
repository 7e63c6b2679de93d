//! Steering: directions that tell two sets of texts apart, and what adding or removing them does.
//!
//! - [`steering_vectors`]: a direction a layer from texts in contrast
//! - [`SteeringVectors`]: the directions; they become interventions ([`SteeringVectors::interventions`])
//! - files: safetensors, and GGUF control vectors as llama.cpp and repeng have them

mod contrast;
mod files;
mod vectors;

pub use contrast::{Contrast, Method, steering_vectors};
pub use vectors::{Action, Direction, Normalise, Steer, SteeringVectors};
