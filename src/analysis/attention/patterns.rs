//! Attention patterns of a prompt.

use std::fmt;

use serde::Serialize;

use super::attention_layers;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid};

/// Where each head of each layer looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttentionPatterns {
    /// Text of each token, or its id where there is no tokenizer.
    pub tokens: Vec<String>,
    /// Axes: "layer", "head", "query", "key". A query's row sums to 1, less what sinks that are no tokens take.
    pub patterns: Grid,
}

/// The patterns of one prompt, of some layers or of all that have attention. They must have equally many heads.
pub fn attention_patterns(
    model: &Model,
    prompt: impl Into<Prompts>,
    layers: Option<&[usize]>,
    options: &TraceOptions,
) -> Result<AttentionPatterns> {
    let layers = attention_layers(model, layers)?;
    let trace = model.trace_with(prompt, options)?;
    let batch = trace.batch()?;
    if batch.len() != 1 {
        bail!(InvalidArgument, "attention patterns are of one prompt at a time, not {}", batch.len());
    }
    let read = |i: &usize| tensor::cast(&trace.get(&format!("layers.{i}.attn.pattern"))?, Dtype::Float32);
    let found: Vec<Array> = layers.iter().map(read).collect::<Result<_>>()?;
    let heads = found[0].dim(1);
    if let Some(at) = found.iter().position(|p| p.dim(1) != heads) {
        bail!(
            InvalidArgument,
            "layer {} has {heads} heads and layer {} has {}: ask for layers of equally many",
            layers[0],
            layers[at],
            found[at].dim(1)
        );
    }
    let tokens: Vec<String> = match (model.tokenizer(), batch.is_tokens()) {
        (Ok(t), true) => batch.rows()[0].iter().map(|id| t.token_to_str(*id)).collect::<Result<_>>()?,
        (_, true) => batch.rows()[0].iter().map(u32::to_string).collect(),
        _ => (0..batch.width()).map(|p| p.to_string()).collect(),
    };
    let axes = vec![
        Axis::new("layer", layers.iter().map(usize::to_string)),
        Axis::counted("head", heads),
        Axis::new("query", tokens.clone()),
        Axis::new("key", tokens.clone()),
    ];
    let patterns = Grid::of(axes, &tensor::concatenate(&found, 0)?)?;
    Ok(AttentionPatterns { tokens, patterns })
}

impl AttentionPatterns {
    /// One head's pattern as "query" by "key"; the layer by its number in the model.
    pub fn head(&self, layer: usize, head: usize) -> Result<Grid> {
        let axes = &self.patterns.axes;
        let Some(l) = axes[0].labels.iter().position(|label| *label == layer.to_string()) else {
            bail!(InvalidArgument, "no patterns of layer {layer}: there are those of {}", axes[0].labels.join(", "))
        };
        if head >= axes[1].len() {
            bail!(InvalidArgument, "head {head} is out of range: layers have {} heads, counted from 0", axes[1].len());
        }
        let size = axes[2].len() * axes[3].len();
        let start = (l * axes[1].len() + head) * size;
        Grid::new(axes[2..].to_vec(), self.patterns.values[start..start + size].to_vec())
    }
}

impl fmt::Display for AttentionPatterns {
    /// For every head the key that the last query looks at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes = &self.patterns.axes;
        let (queries, keys) = (axes[2].len(), axes[3].len());
        writeln!(f, "where the last token, {:?}, looks most:", self.tokens.last().map_or("", String::as_str))?;
        for (i, pattern) in self.patterns.values.chunks(queries * keys).enumerate() {
            let last = &pattern[(queries - 1) * keys..];
            let most = (0..keys).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap_or(0);
            let (layer, head) = (&axes[0].labels[i / axes[1].len()], i % axes[1].len());
            writeln!(f, "  {layer:>3}.{head:<3} {:.3}  position {most} {:?}", last[most], self.tokens[most])?;
        }
        Ok(())
    }
}
