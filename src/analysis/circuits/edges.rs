//! What each edge is worth: how the metric changes when the receiver at its end sees what the sender at its start adds in
//! a corrupt run, and all else stays clean.
//!
//! Edge attribution patching (Syed, Rager, Conmy 2023, "Attribution Patching Outperforms Automated Circuit Discovery")
//! estimates it to first order: the change of the sender's addition times the gradient at the receiver's input. With
//! integrated gradients (Hanna, Pezzelle, Belinkov 2024, "Have Faith in Faithfulness") the gradient is the mean of those
//! met while the input goes from corrupt to clean, so that a flat place on the way does not hide an edge.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::circuit::{Circuit, Edge};
use super::exact::exact;
use super::graph::{Graph, Receiver, Sender};
use super::setting::{Setting, f32s};
use super::slopes::slopes;
use super::stream::{Messages, changes};
use crate::analysis::attribution::Pair;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::{Metric, Progress, tell};

/// How an edge's worth is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeMethod {
    /// From the gradient of the clean run.
    Eap,
    /// From the mean of the gradients on the way from the corrupt input to the clean one.
    EapIg,
    /// By doing it, edge by edge, as rows of batches: slow, and right.
    Exact,
}

/// Options of [`edge_attribution`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeAttributionOptions {
    /// How.
    pub method: EdgeMethod,
    /// Points on the way, for integrated gradients.
    pub steps: usize,
    /// Rows of a batch, as far as one step, or one sender with every receiver of a place, is not more.
    pub chunk: usize,
    /// What every run is under.
    #[serde(skip)]
    pub runs: TraceOptions,
}

impl Default for EdgeAttributionOptions {
    fn default() -> Self {
        Self { method: EdgeMethod::EapIg, steps: 5, chunk: 64, runs: TraceOptions::default() }
    }
}

/// Every edge with its worth, a mean over the pairs of prompts.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeAttribution {
    /// How it was found.
    pub method: EdgeMethod,
    /// What was measured.
    pub measured: String,
    /// The metric of each clean prompt.
    pub clean: Vec<f32>,
    /// The metric of each corrupt prompt.
    pub corrupt: Vec<f32>,
    /// The model's graph.
    pub graph: Graph,
    /// All edges, largest by size first. A score is the change of the metric when the edge is corrupted.
    pub edges: Vec<Edge>,
    /// The scores `[sender, receiver]` in the graph's order, zero where there is no edge.
    #[serde(skip)]
    pub scores: Array,
}

impl EdgeAttribution {
    /// The circuit of the `n` largest edges, less those that lead nowhere.
    pub fn circuit(&self, n: usize) -> Circuit {
        Circuit::new(self.graph.clone(), self.edges.clone()).largest(n)
    }

    /// The score of one edge.
    pub fn score(&self, from: Sender, to: Receiver) -> Result<f32> {
        self.graph.check(from, to)?;
        let found = self.edges.iter().find(|e| e.from == from && e.to == to);
        Ok(found.map_or(0.0, |e| e.score))
    }
}

/// Scores every edge of a model's graph for pairs of prompts. A KL divergence is measured from the clean prediction.
///
/// Errors: pairs of unequal lengths, a model whose residual stream is not a sum of named parts, a metric that is not a
/// number.
pub fn edge_attribution(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    metric: &Metric,
    options: &EdgeAttributionOptions,
    mut progress: Progress<'_>,
) -> Result<EdgeAttribution> {
    if options.steps == 0 || options.chunk == 0 {
        bail!(InvalidArgument, "{} steps in chunks of {}: both must be at least 1", options.steps, options.chunk);
    }
    let pair = Pair::new(model, clean.into(), corrupt.into())?;
    let setting = Setting::new(model, pair.clean, &options.runs, metric)?;
    let other = model.trace_batch(pair.corrupt, &options.runs)?;
    let corrupt = Messages::of(&other, &setting.graph)?;
    let measured = setting.metric.of_trace(&other)?;
    corrupt.eval()?;
    let measured = setting.metric.numbers(&measured)?;
    let change = changes(&setting.graph, &setting.joint, &setting.clean, &corrupt)?;
    let scores = match options.method {
        EdgeMethod::Eap => products(&change, &slopes(&setting, &setting.base)?, setting.rows)?,
        EdgeMethod::EapIg => {
            let mean = mean_slopes(&setting, &corrupt, options, &mut progress)?;
            products(&change, &mean, setting.rows)?
        }
        EdgeMethod::Exact => exact(&setting, &change, options.chunk, &mut progress)?,
    };
    let numbers = scores.to_vec::<f32>()?;
    if numbers.iter().any(|v| !v.is_finite()) {
        bail!(InvalidArgument, "the metric has no gradient in this run: a score is not a number");
    }
    let (senders, receivers) = (setting.graph.senders(), setting.graph.receivers());
    let mut edges = Vec::new();
    for (r, to) in receivers.iter().enumerate() {
        let seen = senders.iter().take(setting.graph.seen(*to)).enumerate();
        edges.extend(seen.map(|(s, from)| Edge { from: *from, to: *to, score: numbers[s * receivers.len() + r] }));
    }
    edges.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
    Ok(EdgeAttribution {
        method: options.method,
        measured: metric.to_string(),
        clean: setting.measured.clone(),
        corrupt: measured,
        graph: setting.graph,
        edges,
        scores,
    })
}

/// Changes `[sender, ..]` times slopes `[receiver, ..]`: the mean over the prompts, zero where there is no edge.
fn products(change: &Array, slopes: &Array, rows: usize) -> Result<Array> {
    let flat = |x: &Array| tensor::flatten(x, 1, -1);
    let products = tensor::matmul(&flat(change)?, &tensor::swap_axes(&flat(slopes)?, 0, 1)?)?;
    tensor::mul(&products, &Array::scalar(1.0 / rows as f64, Dtype::Float32)?)
}

/// The mean of the slopes at points between the corrupt input and the clean one, chunks of them as rows.
fn mean_slopes(
    setting: &Setting,
    corrupt: &Messages,
    options: &EdgeAttributionOptions,
    progress: &mut Progress<'_>,
) -> Result<Array> {
    let (from, to) = (&corrupt.embed, &setting.clean.embed);
    let way = tensor::sub(to, from)?;
    let shares: Vec<f32> = (0..options.steps).map(|k| (k as f32 + 0.5) / options.steps as f32).collect();
    let mut total: Option<Array> = None;
    let mut done = 0;
    for part in shares.chunks((options.chunk / setting.rows).max(1)) {
        let share = Array::from_slice(part, &[part.len(), 1, 1, 1])?;
        let points = tensor::add(from, &tensor::mul(&share, &tensor::expand_dims(&way, 0)?)?)?;
        let run = setting.base.fork_rows(part.len())?;
        run.set("layers.0.resid_pre", &setting.typed(&tensor::flatten(&points, 0, 1)?)?)?;
        let found = tensor::unflatten(&slopes(setting, &run)?, 1, &[part.len() as i32, -1])?;
        let sum = tensor::sum(&found, 1, false)?;
        let sum = match total {
            None => sum,
            Some(before) => tensor::add(&before, &sum)?,
        };
        sum.eval()?;
        total = Some(sum);
        done += part.len() as u64;
        tell(progress, done, options.steps as u64)?;
    }
    let Some(total) = total else { bail!(InvalidArgument, "no steps") };
    f32s(&tensor::mul(&total, &Array::scalar(1.0 / options.steps as f64, Dtype::Float32)?)?)
}

impl fmt::Display for EdgeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EdgeMethod::Eap => "edge attribution patching",
            EdgeMethod::EapIg => "edge attribution patching with integrated gradients",
            EdgeMethod::Exact => "exact edge patching",
        })
    }
}

impl fmt::Display for EdgeAttribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len().max(1) as f32;
        let (clean, corrupt) = (mean(&self.clean), mean(&self.corrupt));
        writeln!(f, "{}, {}: clean {clean:.4}, corrupt {corrupt:.4}", self.method, self.measured)?;
        writeln!(f, "{} edges; the largest:", self.edges.len())?;
        self.edges.iter().take(20).try_for_each(|e| writeln!(f, "{e}"))
    }
}
