//! The logit lens: what the model would say if it stopped after each layer (nostalgebraist, 2020,
//! "interpreting GPT: the logit lens").

use std::fmt;

use serde::Serialize;

use crate::core::arch::tape::Index;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail};

/// The most likely next token at one layer and position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Its id.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub probability: f32,
}

/// Axes: "layer" (one row a layer, in order), "position".
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitLens {
    /// Text of each token of the prompt.
    pub tokens: Vec<String>,
    /// `cells[layer][position]`
    pub cells: Vec<Vec<Cell>>,
}

/// Puts the residual stream after every layer through the final norm and the head, all in one batch: a fork whose rows
/// are the layers. One forward, one projection.
pub fn logit_lens(model: &Model, prompt: impl Into<Prompts>) -> Result<LogitLens> {
    let trace = model.trace(prompt)?;
    let batch = trace.batch()?;
    if batch.len() != 1 {
        bail!(InvalidArgument, "the logit lens reads one prompt at a time, not {}", batch.len());
    }
    let layers = model.num_layers();
    let states: Vec<Array> = (0..layers).map(|i| trace.get(&format!("layers.{i}.output"))).collect::<Result<_>>()?;
    let fork = trace.fork_rows(layers)?;
    fork.set("layers.-1.output", &tensor::concatenate(&states, 0)?)?;
    let probabilities = tensor::softmax(&tensor::cast(&fork.output()?, Dtype::Float32)?, -1)?;
    let best = tensor::argmax(&probabilities, -1, true)?;
    let chosen = tensor::take_along(&probabilities, &best, -1)?;
    Array::eval_all([&best, &chosen])?;
    let (best, chosen) = (best.to_vec::<u32>()?, chosen.to_vec::<f32>()?);
    let tokenizer = model.tokenizer()?;
    let width = batch.width();
    let cell =
        |at: usize| Ok(Cell { token: best[at], text: tokenizer.token_to_str(best[at])?, probability: chosen[at] });
    let row = |layer: usize| (0..width).map(|p| cell(layer * width + p)).collect::<Result<Vec<_>>>();
    Ok(LogitLens {
        tokens: batch.rows()[0].iter().map(|t| tokenizer.token_to_str(*t)).collect::<Result<_>>()?,
        cells: (0..layers).map(row).collect::<Result<_>>()?,
    })
}

impl fmt::Display for LogitLens {
    /// The last position, a line a layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, row) in self.cells.iter().enumerate() {
            if let Some(cell) = row.last() {
                writeln!(f, "  layer {layer:>3}  {:>5.1} %  {:?}", cell.probability * 100.0, cell.text)?;
            }
        }
        Ok(())
    }
}

/// The `k` most likely tokens after the last token of a row of logits `[rows, positions, vocabulary]`.
pub fn top_tokens(model: &Model, logits: &Array, row: usize, position: i64, k: usize) -> Result<Vec<Cell>> {
    let at = [Index::At(row as i64), Index::At(position)];
    let last = crate::core::trace::subscript(logits, &at)?;
    let probabilities = tensor::softmax(&tensor::cast(&last, Dtype::Float32)?, -1)?.to_vec::<f32>()?;
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let tokenizer = model.tokenizer()?;
    let cell = |id: usize| {
        Ok(Cell { token: id as u32, text: tokenizer.token_to_str(id as u32)?, probability: probabilities[id] })
    };
    order.into_iter().take(k).map(cell).collect()
}
