//! How much each head looks at the token before, at copies of its own token, at what came after those, at the first token
//! and at itself.
//!
//! For a kind of key let `S(q)` be the keys of that kind that query `q` sees. A head's score is the mean over the queries
//! whose `S(q)` is not empty of
//!
//! ```text
//! sum over k in S(q) of  pattern[q, k] - 1 / n(q)
//! ```
//!
//! where `n(q)` is the number of keys that `q` sees. So a head that looks everywhere alike scores exactly 0 in all kinds,
//! one that looks at keys of the kind alone scores 1 less their share of the keys, and one that avoids them is below 0.
//! Queries that see a single key are left out, and so is padding. All queries of all prompts count alike.
//!
//! | kind | `S(q)` |
//! |---|---|
//! | `previous_token` | `q - 1` |
//! | `duplicate_token` | `k < q` with the token of `q` |
//! | `induction` | `0 < k < q` whose token before is the token of `q` (Olsson et al. 2022) |
//! | `first_token` | `0`, for `q > 0` |
//! | `current_token` | `q` |
//!
//! Attention sinks that are no tokens (gpt-oss) take their share of a pattern and are not added back.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::attention_layers;
use crate::core::arch::tape::{Attention, Op, Producer};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Batch, TraceOptions};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid};

/// The kinds, in the order of the axis "score".
pub const SCORES: [&str; 5] = ["previous_token", "duplicate_token", "induction", "first_token", "current_token"];

/// What heads look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadScores {
    /// Axes: "score" ([`SCORES`]), "layer", "head". Not a number where no query of the prompts sees a key of the kind, and
    /// where a layer has fewer heads than another.
    pub scores: Grid,
    /// How many queries each kind was averaged over, in the first layer.
    pub queries: Vec<usize>,
}

/// Scores of every head on prompts; see the module for what they are. One forward pass over all prompts.
pub fn head_scores(model: &Model, prompts: impl Into<Prompts>, options: &TraceOptions) -> Result<HeadScores> {
    let layers = attention_layers(model, None)?;
    let trace = model.trace_with(prompts, options)?;
    let batch = trace.batch()?;
    if !batch.is_tokens() {
        bail!(InvalidArgument, "head scores compare tokens: they need text or token ids, not arrays");
    }
    let mut kinds: HashMap<Sight, Keys> = HashMap::new();
    let mut found: Vec<Array> = Vec::new();
    let mut queries = Vec::new();
    for layer in &layers {
        let sight = Sight::of(model, *layer)?;
        let keys = match kinds.get(&sight) {
            Some(keys) => keys,
            None => {
                let made = Keys::new(&sight, &batch)?;
                kinds.entry(sight).or_insert(made)
            }
        };
        if queries.is_empty() {
            queries = keys.queries.to_vec();
        }
        let pattern = tensor::cast(&trace.get(&format!("layers.{layer}.attn.pattern"))?, Dtype::Float32)?;
        found.push(keys.scores(&pattern)?);
    }
    Array::eval_all(&found)?;
    let heads = found.iter().map(|s| s.dim(0)).max().unwrap_or(0);
    let mut values = vec![f32::NAN; SCORES.len() * layers.len() * heads];
    for (l, scores) in found.iter().enumerate() {
        for (i, score) in scores.to_vec::<f32>()?.into_iter().enumerate() {
            let (head, kind) = (i / SCORES.len(), i % SCORES.len());
            values[(kind * layers.len() + l) * heads + head] = score;
        }
    }
    let axes = vec![
        Axis::new("score", SCORES),
        Axis::new("layer", layers.iter().map(usize::to_string)),
        Axis::counted("head", heads),
    ];
    Ok(HeadScores { scores: Grid::new(axes, values)?, queries })
}

/// Which keys a query sees.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Sight {
    causal: bool,
    window: Option<usize>,
    chunk: Option<usize>,
}

impl Sight {
    fn of(model: &Model, layer: usize) -> Result<Self> {
        let site = model.sites().resolve(&format!("layers.{layer}.attn.pattern"))?;
        let program = model.program();
        let attention = match program.origin(program.hooks[site].1.slot) {
            Producer::Instr(i) => match &program.instrs[i as usize].op {
                Op::AttendPattern(a) => Some(a),
                _ => None,
            },
            _ => None,
        };
        let Some(Attention { causal, window, chunk, .. }) = attention else {
            bail!(Unsupported, "the pattern of layer {layer} is not made by an attention: what a query sees is not known")
        };
        Ok(Self { causal: *causal, window: *window, chunk: *chunk })
    }

    fn sees(&self, q: usize, k: usize) -> bool {
        let near = |w: usize| if self.causal { q < k + w } else { q.abs_diff(k) <= w };
        (!self.causal || k <= q) && self.window.is_none_or(near) && self.chunk.is_none_or(|c| q / c == k / c)
    }
}

/// For one kind of sight: an even pattern, and the weight of each key in each score.
struct Keys {
    /// `[row, 1, query, key]`
    even: Array,
    /// `[row * query * key, score]`
    weights: Array,
    queries: [usize; SCORES.len()],
}

impl Keys {
    fn new(sight: &Sight, batch: &Batch) -> Result<Self> {
        let (rows, width) = (batch.len(), batch.width());
        let mut even = vec![0.0f32; rows * width * width];
        let mut marked = vec![[false; SCORES.len()]; rows * width * width];
        let mut queries = [0; SCORES.len()];
        for (r, tokens) in batch.rows().iter().enumerate() {
            for q in 0..tokens.len() {
                let at = |k: usize| (r * width + q) * width + k;
                let seen: Vec<usize> = (0..tokens.len()).filter(|k| sight.sees(q, *k)).collect();
                let mut any = [false; SCORES.len()];
                for k in &seen {
                    even[at(*k)] = 1.0 / seen.len() as f32;
                    if seen.len() > 1 {
                        let kinds = kinds(tokens, q, *k);
                        marked[at(*k)] = kinds;
                        any.iter_mut().zip(kinds).for_each(|(a, k)| *a |= k);
                    }
                }
                queries.iter_mut().zip(any).for_each(|(n, a)| *n += usize::from(a));
            }
        }
        let weight = |(mark, n): (&bool, &usize)| match (*mark, *n) {
            (_, 0) => f32::NAN,
            (true, n) => 1.0 / n as f32,
            (false, _) => 0.0,
        };
        let weights: Vec<f32> = marked.iter().flat_map(|m| m.iter().zip(&queries).map(weight)).collect();
        Ok(Self {
            even: Array::from_slice(&even, &[rows, 1, width, width])?,
            weights: Array::from_slice(&weights, &[marked.len(), SCORES.len()])?,
            queries,
        })
    }

    /// `[head, score]` of a pattern `[row, head, query, key]`.
    fn scores(&self, pattern: &Array) -> Result<Array> {
        let over = tensor::transpose(&tensor::sub(pattern, &self.even)?, &[1, 0, 2, 3])?;
        tensor::matmul(&tensor::flatten(&over, 1, 3)?, &self.weights)
    }
}

/// Of which kinds key `k` is to query `q`, in the order of [`SCORES`].
fn kinds(tokens: &[u32], q: usize, k: usize) -> [bool; SCORES.len()] {
    [
        k + 1 == q,
        k < q && tokens[k] == tokens[q],
        0 < k && k < q && tokens[k - 1] == tokens[q],
        k == 0 && q > 0,
        k == q,
    ]
}

impl HeadScores {
    /// One kind's scores as "layer" by "head".
    pub fn of(&self, score: &str) -> Result<Grid> {
        let Some(at) = SCORES.iter().position(|s| *s == score) else {
            bail!(InvalidArgument, "no head score '{score}': there are {}", SCORES.join(", "))
        };
        let size = self.scores.values.len() / SCORES.len();
        Grid::new(self.scores.axes[1..].to_vec(), self.scores.values[at * size..][..size].to_vec())
    }

    /// The `n` heads of the highest scores of a kind: layer, head, score.
    pub fn best(&self, score: &str, n: usize) -> Result<Vec<(usize, usize, f32)>> {
        let grid = self.of(score)?;
        let mut order: Vec<usize> = (0..grid.values.len()).filter(|i| !grid.values[*i].is_nan()).collect();
        order.sort_by(|a, b| grid.values[*b].total_cmp(&grid.values[*a]));
        let named = |i: usize| {
            let place = grid.place(i);
            // Labels of layers are numbers.
            (grid.axes[0].labels[place[0]].parse().unwrap_or(place[0]), place[1], grid.values[i])
        };
        Ok(order.into_iter().take(n).map(named).collect())
    }
}

impl fmt::Display for HeadScores {
    /// The five best heads of each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in SCORES {
            let best = self.best(kind, 5).unwrap_or_default();
            let heads: Vec<String> = best.iter().map(|(l, h, s)| format!("{l}.{h} {s:.3}")).collect();
            let heads = if heads.is_empty() { "no query has such a key".to_owned() } else { heads.join("  ") };
            writeln!(f, "{kind:<16} {heads}")?;
        }
        Ok(())
    }
}
