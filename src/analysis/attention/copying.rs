//! Copying scores (Elhage et al. 2021): whether a head that looks at a token makes that token likelier.
//!
//! The full OV circuit `W_E W_V W_O W_U` is a matrix of tokens by tokens: what looking at one does to the logit of another.
//! It copies where its eigenvalues are positive, and the score is `sum λ / sum |λ|`, from -1 to 1. Its rank is at most the
//! head's size `r`, and its eigenvalues other than zero are those of the `r` by `r` matrix `W_O (W_U W_E) W_V`; the matrix in
//! brackets is `[width, width]`, shared by all heads, and summed up over the vocabulary part by part. Nothing of vocabulary
//! by vocabulary is made.
//!
//! Norms are folded in as far as they are linear (weights, and a layer norm's mean); positions, the division by the
//! stream's length, biases and soft-caps are left out, and so are MLPs in between.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::attention_layers;
use super::circuits::{one, ov_circuit};
use super::factored::{FactoredMatrix, eigenvalues};
use super::weights::{fold_norm, layer_heads};
use crate::core::arch::tape::{Op, Producer, Slot, Weights};
use crate::core::model::{Inner, Model};
use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail, err};
use crate::utils::{Axis, Grid};

/// Tokens whose embeddings are unpacked at once.
const PART: usize = 8192;

/// Copying scores of heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copying {
    /// Axes: "layer", "head". Not a number where a layer has fewer heads than another, or a head writes nothing.
    pub scores: Grid,
    /// What the matrices leave out in this model; see [`super::HeadCircuit`].
    pub left_out: Vec<String>,
}

/// Copying scores of every head of some layers, or of all that have attention.
pub fn copying_scores(model: &Model, layers: Option<&[usize]>) -> Result<Copying> {
    let layers = attention_layers(model, layers)?;
    let across = Ends::of(model)?.across()?;
    let mut left_out = BTreeSet::new();
    let mut found: Vec<Vec<f32>> = Vec::new();
    for layer in &layers {
        let heads = layer_heads(model, *layer)?;
        if heads.o.dim(2) != across.dim(0) || heads.v.dim(1) != across.dim(1) {
            bail!(
                Unsupported,
                "layer {layer} is {} wide, embedding and head {:?}: they do not share a stream",
                heads.o.dim(2),
                across.shape()
            );
        }
        left_out.extend(heads.left_out.iter().copied());
        let small = tensor::matmul(&tensor::matmul(&heads.o, &across)?, &heads.values()?)?;
        let score = |h: usize| -> Result<f32> {
            let all = eigenvalues(&one(&small, h)?)?;
            let size: f64 = all.iter().map(|e| f64::from(e.size())).sum();
            Ok((all.iter().map(|e| f64::from(e.re)).sum::<f64>() / size) as f32)
        };
        found.push((0..small.dim(0)).map(score).collect::<Result<_>>()?);
    }
    let heads = found.iter().map(Vec::len).max().unwrap_or(0);
    let values = found.iter().flat_map(|row| (0..heads).map(|h| row.get(h).copied().unwrap_or(f32::NAN))).collect();
    let axes = vec![Axis::new("layer", layers.iter().map(usize::to_string)), Axis::counted("head", heads)];
    let left_out = left_out.into_iter().map(str::to_owned).collect();
    Ok(Copying { scores: Grid::new(axes, values)?, left_out })
}

/// The full OV circuit `W_E W_V W_O W_U` of a head as factors `[vocabulary, r]` and `[r, vocabulary]`.
pub fn full_ov_circuit(model: &Model, layer: usize, head: usize) -> Result<FactoredMatrix> {
    let ov = ov_circuit(model, layer, head)?;
    let ends = Ends::of(model)?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for at in (0..ends.tokens).step_by(PART) {
        let (embedding, head) = ends.part(at)?;
        before.push(tensor::matmul(&embedding, ov.a())?);
        after.push(tensor::matmul(&head, &tensor::swap_axes(ov.b(), 0, 1)?)?);
        Array::eval_all(before.iter().chain(&after))?;
    }
    FactoredMatrix::new(
        &tensor::concatenate(&before, 0)?,
        &tensor::swap_axes(&tensor::concatenate(&after, 0)?, 0, 1)?,
    )
}

/// Embedding and unembedding.
struct Ends<'a> {
    model: &'a Inner,
    embedding: Weights,
    head: Weights,
    /// What the head takes.
    input: Slot,
    /// Tokens that both have rows for.
    tokens: usize,
}

impl<'a> Ends<'a> {
    fn of(model: &'a Model) -> Result<Self> {
        let model = model.inner().as_ref();
        let program = &model.program;
        let of_tokens = |s: Slot| matches!(program.origin(s), Producer::Input);
        let embedding = program.instrs.iter().find_map(|i| match &i.op {
            Op::Embedding(w) if program.takes_tokens() && of_tokens(i.inputs[0]) => Some(w.clone()),
            _ => None,
        });
        let embedding = embedding.ok_or_else(|| err!(Unsupported, "this model has no embedding of tokens"))?;
        let site = model.sites.resolve("lm_head").map_err(|_| err!(Unsupported, "this model has no head (lm_head)"))?;
        let made = match program.origin(model.slot(site)) {
            Producer::Instr(i) => Some(&program.instrs[i as usize]),
            _ => None,
        };
        let (head, input) = match made.map(|i| (&i.op, i)) {
            Some((Op::Linear(w), i)) => (w.clone(), i.inputs[0]),
            _ => bail!(Unsupported, "the head is not one matrix"),
        };
        let rows = |w: &Weights| model.parameters.tensor(w.weight).map(|t| t.dim(0));
        let tokens = rows(&embedding)?.min(rows(&head)?);
        Ok(Self { model, embedding, head, input, tokens })
    }

    /// Embeddings and unembeddings `[tokens, width]` from token `at` on, [`PART`] at most.
    fn part(&self, at: usize) -> Result<(Array, Array)> {
        let ids: Vec<u32> = (at..self.tokens.min(at + PART)).map(|i| i as u32).collect();
        let ids = Array::from_slice(&ids, &[ids.len()])?;
        let rows = |w: &Weights| tensor::cast(&self.model.parameters.embed(w, &ids)?, Dtype::Float32);
        let head = fold_norm(self.model, rows(&self.head)?, self.input)?.0;
        Ok((rows(&self.embedding)?, head))
    }

    /// `W_U W_E` `[width, width]`: the sum over tokens of unembedding times embedding.
    fn across(&self) -> Result<Array> {
        let mut sum: Option<Array> = None;
        for at in (0..self.tokens).step_by(PART) {
            let (embedding, head) = self.part(at)?;
            let part = tensor::matmul(&tensor::swap_axes(&head, 0, 1)?, &embedding)?;
            let next = match &sum {
                Some(sum) => tensor::add(sum, &part)?,
                None => part,
            };
            next.eval()?;
            sum = Some(next);
        }
        sum.ok_or_else(|| err!(Unsupported, "the vocabulary is empty"))
    }
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "copying: sum of eigenvalues of the full OV circuit by the sum of their sizes")?;
        self.scores.fmt(f)?;
        if !self.left_out.is_empty() {
            writeln!(f, "left out: {}", self.left_out.join("; "))?;
        }
        Ok(())
    }
}
