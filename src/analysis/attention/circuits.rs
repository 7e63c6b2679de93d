//! QK and OV circuits of a head (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits").
//!
//! Rows count: with the stream `x` of a query and `y` of a key, `x W_Q W_K^T y^T` is the score before scaling, so the QK
//! circuit is `W_Q W_K^T`; and `y W_V W_O` is what a head that looks at `y` writes, so the OV circuit is `W_V W_O`. Both are
//! `[width, width]` of rank at most the head's size, and are kept as factors.
//!
//! They are exact where queries and keys are linear in the stream: no rotation, no norms, no biases, as in
//! `attention_only`. Elsewhere they are what is left when rotations, biases, norms of queries and keys, and the division by
//! the stream's length in the norm in front are taken away; that norm's weights and its taking off the mean are folded in.
//! [`HeadCircuit::left_out`] says what was left out in a given model. Packed weights are unpacked, a layer at a time.

use std::fmt;

use super::attention_layers;
use super::factored::{Eigenvalue, FactoredMatrix};
use super::weights::{LayerHeads, layer_heads};
use crate::core::model::Model;
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail};

/// One head's circuits with what can be said of them.
#[derive(Clone, Debug)]
pub struct HeadCircuit {
    /// Layer.
    pub layer: usize,
    /// Query head.
    pub head: usize,
    /// `W_Q W_K^T`, with the keys of the head's group.
    pub qk: FactoredMatrix,
    /// `W_V W_O`, with the values of the head's group.
    pub ov: FactoredMatrix,
    /// Singular values of each, largest first.
    pub qk_singular: Vec<f32>,
    /// Of OV.
    pub ov_singular: Vec<f32>,
    /// Eigenvalues of each, largest first.
    pub qk_eigenvalues: Vec<Eigenvalue>,
    /// Of OV.
    pub ov_eigenvalues: Vec<Eigenvalue>,
    /// What the matrices leave out in this model, in words; nothing where they are exact.
    pub left_out: Vec<String>,
}

/// Both circuits of a head, decomposed.
pub fn head_circuit(model: &Model, layer: usize, head: usize) -> Result<HeadCircuit> {
    let heads = heads_of(model, layer, head)?;
    let (qk, ov) = (qk_of(&heads, head)?, ov_of(&heads, head)?);
    Ok(HeadCircuit {
        layer,
        head,
        qk_singular: qk.svd()?.s,
        ov_singular: ov.svd()?.s,
        qk_eigenvalues: qk.eigenvalues()?,
        ov_eigenvalues: ov.eigenvalues()?,
        left_out: heads.left_out.iter().map(|s| (*s).to_owned()).collect(),
        qk,
        ov,
    })
}

/// `W_Q W_K^T` of a query head, `[width, width]`.
pub fn qk_circuit(model: &Model, layer: usize, head: usize) -> Result<FactoredMatrix> {
    qk_of(&heads_of(model, layer, head)?, head)
}

/// `W_V W_O` of a query head, `[width, width]`.
pub fn ov_circuit(model: &Model, layer: usize, head: usize) -> Result<FactoredMatrix> {
    ov_of(&heads_of(model, layer, head)?, head)
}

fn heads_of(model: &Model, layer: usize, head: usize) -> Result<LayerHeads> {
    attention_layers(model, Some(&[layer]))?;
    let heads = layer_heads(model, layer)?;
    let n = heads.q.dim(0);
    if head >= n {
        bail!(InvalidArgument, "head {head} is out of range: layer {layer} has {n} heads, counted from 0");
    }
    Ok(heads)
}

fn qk_of(heads: &LayerHeads, head: usize) -> Result<FactoredMatrix> {
    let k = tensor::swap_axes(&one(&heads.k, heads.group(head))?, 0, 1)?;
    FactoredMatrix::new(&one(&heads.q, head)?, &k)
}

fn ov_of(heads: &LayerHeads, head: usize) -> Result<FactoredMatrix> {
    FactoredMatrix::new(&one(&heads.v, heads.group(head))?, &one(&heads.o, head)?)
}

/// One head's matrix.
pub(super) fn one(all: &Array, head: usize) -> Result<Array> {
    let (h, rows, columns) = (head as i32, all.dim(1) as i32, all.dim(2) as i32);
    tensor::squeeze(&tensor::slice(all, &[h, 0, 0], &[h + 1, rows, columns], &[1, 1, 1])?, 0)
}

impl fmt::Display for HeadCircuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [m, n] = self.qk.shape();
        writeln!(f, "head {}.{}: QK and OV circuits of {m} by {n}, rank at most {}", self.layer, self.head, self.qk.inner())?;
        let some = |s: &[f32]| s.iter().take(5).map(|v| format!("{v:.3}")).collect::<Vec<_>>().join(" ");
        let sums = |e: &[Eigenvalue]| {
            let (sum, size) = e.iter().fold((0.0, 0.0), |(s, n), e| (s + e.re, n + e.size()));
            if size > 0.0 { sum / size } else { 0.0 }
        };
        for (name, singular, eigenvalues) in
            [("QK", &self.qk_singular, &self.qk_eigenvalues), ("OV", &self.ov_singular, &self.ov_eigenvalues)]
        {
            let share = sums(eigenvalues);
            writeln!(f, "  {name}  singular values {} …  sum of eigenvalues by sum of sizes {share:+.3}", some(singular))?;
        }
        match self.left_out.as_slice() {
            [] => writeln!(f, "  exact: nothing is left out"),
            some => writeln!(f, "  left out: {}", some.join("; ")),
        }
    }
}
