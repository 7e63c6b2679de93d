//! Automated circuit discovery (Conmy et al. 2023, "Towards Automated Circuit Discovery for Mechanistic
//! Interpretability"): from the logits backwards, each edge is cut for good if that costs less than a threshold.
//!
//! Each decision depends on those before it. Most are to cut, so a batch's rows cut one more edge each: row `n` is right as
//! long as the `n` before it were cut. What follows the first edge that is kept is asked again.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ablation::Ablation;
use super::circuit::{Circuit, Edge};
use super::cut::{Cuts, run_cut};
use super::graph::{Receiver, Sender};
use super::setting::Setting;
use super::stream::Messages;
use crate::analysis::attribution::Pair;
use crate::core::model::{Model, Prompts};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::{Metric, Progress, tell};

/// Options of [`acdc`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcdcOptions {
    /// What an edge may cost, in the metric's units, to be cut.
    pub threshold: f32,
    /// What cut edges carry.
    pub ablation: Ablation,
    /// Rows of a batch, as far as the prompts are not more.
    pub chunk: usize,
    /// What every run is under.
    #[serde(skip)]
    pub runs: TraceOptions,
}

impl Default for AcdcOptions {
    fn default() -> Self {
        Self { threshold: 0.01, ablation: Ablation::Resample, chunk: 64, runs: TraceOptions::default() }
    }
}

/// What the search kept.
#[derive(Clone, Debug, Serialize)]
pub struct Acdc {
    /// What was measured.
    pub measured: String,
    /// What an edge might cost.
    pub threshold: f32,
    /// What cut edges carried.
    pub ablation: Ablation,
    /// The circuit. A score is what cutting that edge would have cost when it was asked about.
    pub circuit: Circuit,
    /// What all the cuts cost together.
    pub damage: f32,
    /// Rows that were run.
    pub rows: usize,
    /// Batches that were run.
    pub batches: usize,
}

/// Searches the edges that a metric needs. What a cut costs is how much further it takes a KL divergence from the clean
/// prediction, or any other metric from its clean value, on average over the prompts.
///
/// Errors: a threshold that is no positive number, pairs of unequal lengths, a metric that is not a number.
pub fn acdc(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    metric: &Metric,
    options: &AcdcOptions,
    mut progress: Progress<'_>,
) -> Result<Acdc> {
    if !(options.threshold > 0.0 && options.threshold.is_finite()) || options.chunk == 0 {
        bail!(
            InvalidArgument,
            "a threshold of {} and batches of {} rows: both must be above 0",
            options.threshold,
            options.chunk
        );
    }
    let pair = Pair::new(model, clean.into(), corrupt.into())?;
    let setting = Setting::new(model, pair.clean, &options.runs, metric)?;
    let corrupt = Messages::of(&model.trace_batch(pair.corrupt.clone(), &options.runs)?, &setting.graph)?;
    corrupt.eval()?;
    let instead = options.ablation.of(&corrupt, &pair.corrupt)?;
    instead.eval()?;
    let cuts = Cuts::new(&setting.graph, false);
    let mut search = Search { setting: &setting, instead, options, cuts, damage: 0.0, rows: 0, batches: 0 };
    let (senders, receivers) = (setting.graph.senders(), setting.graph.receivers());
    let total = setting.graph.edges() as u64;
    let (mut kept, mut done) = (Vec::new(), 0);
    let mut sending: HashSet<Sender> = HashSet::new();
    for (r, to) in receivers.iter().enumerate().rev() {
        let seen = setting.graph.seen(*to);
        let alive = *to == Receiver::Logits || setting.graph.heads_of(*to).iter().any(|h| sending.contains(h));
        if alive {
            for (s, score) in search.receiver(r, *to, seen)? {
                sending.insert(senders[s]);
                kept.push(Edge { from: senders[s], to: *to, score });
            }
        } else {
            // Nothing reads what this receiver's node adds any more.
            (0..seen).for_each(|s| search.cuts.set(s, r, true));
        }
        done += seen as u64;
        tell(&mut progress, done, total)?;
    }
    kept.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
    let mut circuit = Circuit::new(setting.graph.clone(), kept);
    if options.ablation == Ablation::Resample {
        // A sender whose every input is corrupt adds what it adds in the corrupt run: its edges are cut already.
        circuit = circuit.connected();
    }
    let (damage, rows, batches) = (search.damage, search.rows, search.batches);
    Ok(Acdc {
        measured: metric.to_string(),
        threshold: options.threshold,
        ablation: options.ablation,
        circuit,
        damage,
        rows,
        batches,
    })
}

struct Search<'a> {
    setting: &'a Setting,
    instead: Messages,
    options: &'a AcdcOptions,
    cuts: Cuts,
    damage: f32,
    rows: usize,
    batches: usize,
}

impl Search<'_> {
    /// Decides about every edge into a receiver, the latest senders first: those to keep, with what cutting them would cost.
    fn receiver(&mut self, receiver: usize, to: Receiver, seen: usize) -> Result<Vec<(usize, f32)>> {
        let first = match to {
            Receiver::Query { layer, .. }
            | Receiver::Key { layer, .. }
            | Receiver::Value { layer, .. }
            | Receiver::Mlp { layer } => layer,
            Receiver::Logits => self.setting.graph.layers.len() - 1,
        };
        let most = (self.options.chunk / self.setting.rows).max(1);
        let (mut left, mut kept) = (seen, Vec::new());
        while left > 0 {
            let n = most.min(left);
            let mut rows = Vec::with_capacity(n);
            let mut next = self.cuts.clone();
            for sender in (left - n..left).rev() {
                next.set(sender, receiver, true);
                rows.push(next.clone());
            }
            let run = run_cut(self.setting, &self.instead, &rows, first)?;
            let damages = self.damages(&run)?;
            self.rows += n * self.setting.rows;
            self.batches += 1;
            for damage in damages {
                left -= 1;
                let cost = damage - self.damage;
                if cost < self.options.threshold {
                    self.cuts.set(left, receiver, true);
                    self.damage = damage;
                } else {
                    kept.push((left, cost));
                    break;
                }
            }
        }
        Ok(kept)
    }

    /// How far each copy of the prompts is from the clean run.
    fn damages(&self, run: &crate::core::trace::Trace) -> Result<Vec<f32>> {
        let metric = self.setting.metric.of_trace(run)?;
        let numbers = self.setting.metric.numbers(&metric)?;
        let apart: Vec<f32> =
            numbers.iter().enumerate().map(|(i, v)| (v - self.setting.measured[i % self.setting.rows]).abs()).collect();
        Ok(self.setting.means(&apart))
    }
}

impl fmt::Display for Acdc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, threshold {}: the cuts cost {:.4} together ({} rows in {} batches)",
            self.measured, self.threshold, self.damage, self.rows, self.batches
        )?;
        self.circuit.fmt(f)
    }
}
