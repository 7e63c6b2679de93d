//! What attention heads look at, and what they read and write: patterns, scores for known kinds of heads, QK and OV
//! circuits.

pub mod circuits;
pub mod composition;
pub mod copying;
pub mod factored;
pub mod patterns;
pub mod repeated;
pub mod scores;
mod weights;

pub use circuits::{HeadCircuit, head_circuit, ov_circuit, qk_circuit};
pub use composition::{Composition, composition_scores};
pub use copying::{Copying, copying_scores, full_ov_circuit};
pub use factored::{Eigenvalue, FactoredMatrix, Svd};
pub use patterns::{AttentionPatterns, attention_patterns};
pub use repeated::{Repeated, detect_heads, repeated_tokens};
pub use scores::{HeadScores, SCORES, head_scores};

use crate::core::model::Model;
use crate::error::{Result, bail};

/// Layers with an attention that is a site: those asked for, else all. Errors: a layer out of range, or without one.
fn attention_layers(model: &Model, asked: Option<&[usize]>) -> Result<Vec<usize>> {
    let n = model.num_layers();
    let has = |i: &usize| model.sites().resolve(&format!("layers.{i}.attn.pattern")).is_ok();
    let Some(asked) = asked else {
        let all: Vec<usize> = (0..n).filter(has).collect();
        if all.is_empty() {
            bail!(Unsupported, "this model has no attention: no layer has a site 'attn.pattern'");
        }
        return Ok(all);
    };
    if asked.is_empty() {
        bail!(InvalidArgument, "no layers: name some, or leave them out to mean all");
    }
    for layer in asked {
        if *layer >= n {
            bail!(InvalidArgument, "layer {layer} is out of range: the model has {n} layers, counted from 0");
        }
        if !has(layer) {
            let with: Vec<String> = (0..n).filter(has).map(|i| i.to_string()).collect();
            bail!(Unsupported, "layer {layer} has no attention; layers {} have", with.join(", "));
        }
    }
    Ok(asked.to_vec())
}
