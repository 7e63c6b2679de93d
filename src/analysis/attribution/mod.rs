//! How much each part of a model, or of its input, contributes to a metric: estimates from gradients.

mod integrated;
mod pair;
mod patching;

pub use integrated::{Baseline, IntegratedGradients, IntegratedGradientsOptions, integrated_gradients};
pub(crate) use pair::{Pair, labels};
pub use patching::{AttributionPatching, AttributionPatchingOptions, Component, NeuronScore, attribution_patching};
