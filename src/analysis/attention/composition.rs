//! Composition scores (Elhage et al. 2021): how much of what one head writes a later head reads, as weights say.
//!
//! With the circuits of rows ([`super::circuits`]), what head 1 writes is `y W_OV1`. Head 2 makes queries, keys and values of
//! it, and the three scores are
//!
//! ```text
//! Q: |W_OV1 W_QK2| / (|W_OV1| |W_QK2|)     K: |W_OV1 W_QK2^T| / (|W_OV1| |W_QK2|)     V: |W_OV1 W_OV2| / (|W_OV1| |W_OV2|)
//! ```
//!
//! in Frobenius norms, less what random matrices give: for Gaussian factors of width `d` the square of the ratio is `1/d` on
//! average, so `1/sqrt(d)` is taken off. Heads of the same or a later layer have no score (not a number). Weights say what can
//! flow, not what does: a head that never looks anywhere useful may score high.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::attention_layers;
use super::weights::{LayerHeads, layer_heads};
use crate::core::model::Model;
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid};

/// The kinds, in the order of the axis "kind".
const KINDS: [&str; 3] = ["q", "k", "v"];

/// Composition scores of pairs of heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Composition {
    /// Axes: "kind" (q, k, v), "from" and "to" (heads as "layer.head"). Not a number where `to` is not in a later layer.
    pub scores: Grid,
    /// What was taken off every ratio: `1/sqrt(width)`.
    pub baseline: f32,
    /// What the matrices leave out in this model; see [`super::HeadCircuit`].
    pub left_out: Vec<String>,
}

/// Factors of every head of a layer, and their Gram matrices.
struct Factors {
    /// QK: `[head, width, r]` and `[head, r, width]`; OV likewise.
    q: Array,
    k: Array,
    v: Array,
    o: Array,
    qq: Array,
    kk: Array,
    vv: Array,
    oo: Array,
    /// Frobenius norms `[head]`.
    qk_norm: Array,
    ov_norm: Array,
}

impl Factors {
    fn of(heads: &LayerHeads) -> Result<Self> {
        let (q, k, v, o) = (heads.q.clone(), heads.keys()?, heads.values()?, heads.o.clone());
        // x^T x of factors [head, width, r], so that every Gram is [head, r, r].
        let gram = |x: &Array| tensor::matmul(&flip(x)?, x);
        let (qq, kk, vv, oo) = (gram(&q)?, gram(&k)?, gram(&v)?, gram(&flip(&o)?)?);
        let norm = |a: &Array, b: &Array| total(&tensor::mul(a, b)?);
        let (qk_norm, ov_norm) = (norm(&qq, &kk)?, norm(&vv, &oo)?);
        let all = Self { q, k, v, o, qq, kk, vv, oo, qk_norm, ov_norm };
        Array::eval_all([&all.q, &all.k, &all.v, &all.o, &all.qq, &all.kk, &all.vv, &all.oo])?;
        Array::eval_all([&all.qk_norm, &all.ov_norm])?;
        Ok(all)
    }
}

fn flip(x: &Array) -> Result<Array> {
    tensor::swap_axes(x, -1, -2)
}

/// Square root of the sum over the last two axes.
fn total(x: &Array) -> Result<Array> {
    let sum = tensor::sum(&tensor::sum(x, -1, false)?, -1, false)?;
    tensor::sqrt(&tensor::maximum(&sum, &tensor::weak(0.0, &sum)?)?)
}

/// Composition scores between all heads of some layers, or of all that have attention. No matrix of width by width is made:
/// every norm is a sum over a head's size squared.
pub fn composition_scores(model: &Model, layers: Option<&[usize]>) -> Result<Composition> {
    let mut layers = attention_layers(model, layers)?;
    layers.sort_unstable();
    layers.dedup();
    if layers.len() < 2 {
        bail!(InvalidArgument, "composition is between heads of different layers: name two layers at least");
    }
    let mut left_out = BTreeSet::new();
    let mut factors = Vec::new();
    for layer in &layers {
        let heads = layer_heads(model, *layer)?;
        left_out.extend(heads.left_out.iter().copied());
        factors.push(Factors::of(&heads)?);
    }
    let width = factors[0].q.dim(1);
    let counts: Vec<usize> = factors.iter().map(|f| f.q.dim(0)).collect();
    let starts: Vec<usize> = counts.iter().scan(0, |at, n| Some((*at, *at += n).0)).collect();
    let n: usize = counts.iter().sum();
    let baseline = (width as f32).sqrt().recip();
    let mut values = vec![f32::NAN; KINDS.len() * n * n];
    for (l1, first) in factors.iter().enumerate() {
        for (l2, second) in factors.iter().enumerate().skip(l1 + 1) {
            for (kind, ratios) in ratios(first, second)?.into_iter().enumerate() {
                for (i, ratio) in ratios.into_iter().enumerate() {
                    let (from, to) = (starts[l1] + i / counts[l2], starts[l2] + i % counts[l2]);
                    values[(kind * n + from) * n + to] = ratio - baseline;
                }
            }
        }
    }
    let labels: Vec<String> =
        layers.iter().zip(&counts).flat_map(|(l, n)| (0..*n).map(move |h| format!("{l}.{h}"))).collect();
    let axes = vec![Axis::new("kind", KINDS), Axis::new("from", labels.clone()), Axis::new("to", labels)];
    let left_out = left_out.into_iter().map(str::to_owned).collect();
    Ok(Composition { scores: Grid::new(axes, values)?, baseline, left_out })
}

/// For q, k and v: the ratio of every head of the first layer with every head of the second, `[from, to]` flat.
fn ratios(first: &Factors, second: &Factors) -> Result<Vec<Vec<f32>>> {
    // |A B C D| with A^T A, D D^T given and M = B C: the root of the sum of (A^T A M) * (M D D^T).
    let pair = |c: &Array, dd: &Array, norm: &Array| -> Result<Vec<f32>> {
        let m = tensor::matmul(&tensor::expand_dims(&first.o, 1)?, &tensor::expand_dims(c, 0)?)?;
        let left = tensor::matmul(&tensor::expand_dims(&first.vv, 1)?, &m)?;
        let right = tensor::matmul(&m, &tensor::expand_dims(dd, 0)?)?;
        let both = tensor::mul(&tensor::expand_dims(&first.ov_norm, 1)?, &tensor::expand_dims(norm, 0)?)?;
        // A head of zeros composes with nothing.
        let tiny = tensor::weak(f64::from(f32::MIN_POSITIVE), &both)?;
        tensor::div(&total(&tensor::mul(&left, &right)?)?, &tensor::maximum(&both, &tiny)?)?.to_vec::<f32>()
    };
    Ok(vec![
        pair(&second.q, &second.kk, &second.qk_norm)?,
        pair(&second.k, &second.qq, &second.qk_norm)?,
        pair(&second.v, &second.oo, &second.ov_norm)?,
    ])
}

impl Composition {
    /// The `n` highest scores of a kind ("q", "k" or "v"): from, to, score.
    pub fn best(&self, kind: &str, n: usize) -> Result<Vec<(String, String, f32)>> {
        let Some(at) = KINDS.iter().position(|k| *k == kind) else {
            bail!(InvalidArgument, "no kind of composition '{kind}': there are q, k, v")
        };
        let heads = self.scores.axes[1].len();
        let of_kind = &self.scores.values[at * heads * heads..][..heads * heads];
        let mut order: Vec<usize> = (0..of_kind.len()).filter(|i| !of_kind[*i].is_nan()).collect();
        order.sort_by(|a, b| of_kind[*b].total_cmp(&of_kind[*a]));
        let label = |i: usize| self.scores.axes[1].labels[i].clone();
        Ok(order.into_iter().take(n).map(|i| (label(i / heads), label(i % heads), of_kind[i])).collect())
    }
}

impl fmt::Display for Composition {
    /// The ten highest scores of each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "composition less {:.3}, what random matrices give", self.baseline)?;
        for kind in KINDS {
            for (from, to, score) in self.best(kind, 10).unwrap_or_default() {
                writeln!(f, "  {kind}  {from:>6} -> {to:<6} {score:+.3}")?;
            }
        }
        if !self.left_out.is_empty() {
            writeln!(f, "left out: {}", self.left_out.join("; "))?;
        }
        Ok(())
    }
}
