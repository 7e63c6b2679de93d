//! Which connections inside a model make an answer: edges between heads, MLPs, embedding and logits.

mod ablation;
mod acdc;
mod circuit;
mod cut;
mod edges;
mod evaluate;
mod exact;
mod graph;
mod names;
mod setting;
mod slopes;
mod stream;

pub use ablation::Ablation;
pub use acdc::{Acdc, AcdcOptions, acdc};
pub use circuit::{Circuit, Edge};
pub use edges::{EdgeAttribution, EdgeAttributionOptions, EdgeMethod, edge_attribution};
pub use evaluate::{CircuitEvaluation, EvaluateOptions, evaluate_circuit};
pub use graph::{Graph, LayerShape, Receiver, Sender};
