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
use super::weights::{queries_and_keys, spread, values_and_outputs};
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

/// What the heads of a layer write: the outputs' matrices, the Gram matrices of the values', the norms of OV.
struct Writes {
    /// `[head, r, width]`
    o: Array,
    /// `[head, r, r]`
    vv: Array,
    /// `[head]`
    norm: Array,
}

/// What the heads of a layer read by queries, keys and values: matrices `[head, width, r]`, of fewer heads where several
/// queries share one; with each query head, the Gram matrix `[head, r, r]` of the circuit's other half, and the norm.
struct Reads {
    kinds: [(Array, Array, Array); KINDS.len()],
}

/// Both, of a layer.
fn factors(model: &Model, layer: usize, left_out: &mut BTreeSet<&'static str>) -> Result<(Writes, Reads)> {
    let (asked, read) = (queries_and_keys(model, layer)?, values_and_outputs(model, layer)?);
    left_out.extend(asked.left_out.iter().chain(&read.left_out).copied());
    let n = asked.q.dim(0);
    // x^T x of matrices [head, width, r].
    let gram = |x: &Array| tensor::matmul(&flip(x)?, x);
    let (qq, kk) = (gram(&asked.q)?, spread(&gram(&asked.k)?, n)?);
    let (vv, oo) = (spread(&gram(&read.v)?, n)?, gram(&flip(&read.o)?)?);
    let (qk, ov) = (total(&tensor::mul(&qq, &kk)?)?, total(&tensor::mul(&vv, &oo)?)?);
    Array::eval_all([&asked.q, &asked.k, &read.v, &read.o, &qq, &kk, &vv, &oo, &qk, &ov])?;
    let kinds = [(asked.q, kk, qk.clone()), (asked.k, qq, qk), (read.v, oo, ov.clone())];
    Ok((Writes { o: read.o, vv, norm: ov }, Reads { kinds }))
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
    // Of the layers before, only what they write is kept.
    let mut before: Vec<Writes> = Vec::new();
    // By pairs of layers: from, to, and the ratios of their heads.
    let mut found: Vec<(usize, usize, Vec<Vec<f32>>)> = Vec::new();
    for (to, layer) in layers.iter().enumerate() {
        let (writes, reads) = factors(model, *layer, &mut left_out)?;
        for (from, earlier) in before.iter().enumerate() {
            found.push((from, to, ratios(earlier, &reads)?));
        }
        before.push(writes);
    }
    let width = before[0].o.dim(2);
    let counts: Vec<usize> = before.iter().map(|w| w.o.dim(0)).collect();
    let starts: Vec<usize> = counts.iter().scan(0, |at, n| Some((*at, *at += n).0)).collect();
    let n: usize = counts.iter().sum();
    let baseline = (width as f32).sqrt().recip();
    let mut values = vec![f32::NAN; KINDS.len() * n * n];
    for (l1, l2, kinds) in found {
        for (kind, ratios) in kinds.into_iter().enumerate() {
            for (i, ratio) in ratios.into_iter().enumerate() {
                let (from, to) = (starts[l1] + i / counts[l2], starts[l2] + i % counts[l2]);
                values[(kind * n + from) * n + to] = ratio - baseline;
            }
        }
    }
    let labels: Vec<String> =
        layers.iter().zip(&counts).flat_map(|(l, n)| (0..*n).map(move |h| format!("{l}.{h}"))).collect();
    let axes = vec![Axis::new("kind", KINDS), Axis::new("from", labels.clone()), Axis::new("to", labels)];
    let left_out = left_out.into_iter().map(str::to_owned).collect();
    Ok(Composition { scores: Grid::new(axes, values)?, baseline, left_out })
}

/// For q, k and v: the ratio of every head of an earlier layer with every head of a later one, `[from, to]` flat.
fn ratios(earlier: &Writes, later: &Reads) -> Result<Vec<Vec<f32>>> {
    // |A B C D| with A^T A and D D^T given and M = B C: the root of the sum of (A^T A M) * (M D D^T).
    let ratio = |(c, dd, norm): &(Array, Array, Array)| -> Result<Vec<f32>> {
        let m = tensor::matmul(&tensor::expand_dims(&earlier.o, 1)?, &tensor::expand_dims(c, 0)?)?;
        let m = tensor::repeat(&m, dd.dim(0) / c.dim(0), 1)?;
        let left = tensor::matmul(&tensor::expand_dims(&earlier.vv, 1)?, &m)?;
        let right = tensor::matmul(&m, &tensor::expand_dims(dd, 0)?)?;
        let both = tensor::mul(&tensor::expand_dims(&earlier.norm, 1)?, &tensor::expand_dims(norm, 0)?)?;
        // A head of zeros composes with nothing.
        let tiny = tensor::weak(f64::from(f32::MIN_POSITIVE), &both)?;
        tensor::div(&total(&tensor::mul(&left, &right)?)?, &tensor::maximum(&both, &tiny)?)?.to_vec::<f32>()
    };
    later.kinds.iter().map(ratio).collect()
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
