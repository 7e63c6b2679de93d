//! Integrated gradients (Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks"): the gradients along
//! the straight way from a baseline to the value, averaged and multiplied by the way. What they add up to is the
//! difference of the metric between both ends; how far off the sum is tells whether there were enough steps.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::labels;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Trace, TraceOptions, fit};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid, Metric, Prepared, Progress, tell};

/// Where the way begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Zeros.
    #[default]
    Zero,
    /// What other prompts, of as many tokens, have at the site.
    Prompts(Prompts),
    /// This value; it broadcasts to the site.
    #[serde(skip)]
    Value(Array),
}

/// Options of [`integrated_gradients`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntegratedGradientsOptions {
    /// Where; the embedding when nothing is said.
    pub site: String,
    /// Where the way begins.
    pub baseline: Baseline,
    /// Points on the way, in the middle of as many equal parts.
    pub steps: usize,
    /// Rows of a batch (each point is a row for each prompt), as far as the prompts are not more: bounds the memory.
    pub chunk: usize,
    /// What every run is under.
    #[serde(skip)]
    pub runs: TraceOptions,
}

impl Default for IntegratedGradientsOptions {
    fn default() -> Self {
        Self { site: "embed".to_owned(), baseline: Baseline::Zero, steps: 32, chunk: 16, runs: TraceOptions::default() }
    }
}

/// Attributions of a metric to the parts of a site.
#[derive(Clone, Debug, Serialize)]
pub struct IntegratedGradients {
    /// Name of the site.
    pub site: String,
    /// What was measured.
    pub measured: String,
    /// Points on the way.
    pub steps: usize,
    /// The metric of each prompt.
    pub metric: Vec<f32>,
    /// The metric of each prompt with the baseline at the site.
    pub baseline: Vec<f32>,
    /// What each prompt's attributions add up to.
    pub sum: Vec<f32>,
    /// `sum - (metric - baseline)` of each prompt: zero with enough steps.
    pub completeness_error: Vec<f32>,
    /// Axes "prompt" (left out where there is one) and "position": summed over everything else the site holds.
    pub attributions: Grid,
    /// The attributions in the site's shape, float32.
    #[serde(skip)]
    pub values: Array,
}

/// Attributes a metric to the values of a site, as rows of batches of bounded size. A KL divergence is measured from the
/// prompt's own prediction.
///
/// Errors: no steps, a site without numbers, a baseline that does not fit, a metric that is not a number.
pub fn integrated_gradients(
    model: &Model,
    prompts: impl Into<Prompts>,
    metric: &Metric,
    options: &IntegratedGradientsOptions,
    mut progress: Progress<'_>,
) -> Result<IntegratedGradients> {
    if options.steps == 0 || options.chunk == 0 {
        bail!(InvalidArgument, "{} steps in chunks of {}: both must be at least 1", options.steps, options.chunk);
    }
    let trace = model.trace_with(prompts, &options.runs)?;
    let batch = trace.batch()?;
    let rows = batch.len();
    let mut prepared = metric.prepare(model, rows)?;
    if prepared.needs_reference() {
        prepared = prepared.with_reference(&trace.last_logits()?);
    }
    let value = trace.get(&options.site)?;
    if !matches!(value.dtype(), Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32) {
        bail!(InvalidArgument, "'{}' holds {} numbers: there is no gradient of those", options.site, value.dtype());
    }
    if value.ndim() == 0 || value.dim(0) != rows {
        bail!(Unsupported, "'{}' has shape {:?}: no axis of it counts the prompts", options.site, value.shape());
    }
    let start = baseline(model, &trace, options, &value)?;
    let way = tensor::sub(&tensor::cast(&value, Dtype::Float32)?, &tensor::cast(&start, Dtype::Float32)?)?;
    let from = tensor::cast(&start, Dtype::Float32)?;
    Array::eval_all([&way, &from])?;

    let ends = along(&trace, &options.site, &from, &way, &[1.0, 0.0], value.dtype())?;
    let ends = prepared.numbers(&prepared.of_trace(&ends)?)?;
    let (metric_at, baseline_at) = ends.split_at(rows);

    let shares: Vec<f32> = (0..options.steps).map(|k| (k as f32 + 0.5) / options.steps as f32).collect();
    let mut total = tensor::zeros_like(&way)?;
    let mut done = 0;
    for part in shares.chunks((options.chunk / rows).max(1)) {
        let fork = along(&trace, &options.site, &from, &way, part, value.dtype())?;
        total = tensor::add(&total, &summed_gradient(&fork, &options.site, &prepared, part.len())?)?;
        total.eval()?;
        done += part.len() as u64;
        tell(&mut progress, done, options.steps as u64)?;
    }
    let mean = tensor::mul(&total, &Array::scalar(1.0 / options.steps as f64, Dtype::Float32)?)?;
    let values = tensor::mul(&mean, &way)?;
    let attributions = by_position(model, &trace, &options.site, &values)?;
    let width = attributions.values.len() / rows;
    let sum: Vec<f32> = attributions.values.chunks(width).map(|row| row.iter().sum()).collect();
    if let Some(row) = sum.iter().position(|v| !v.is_finite()) {
        bail!(
            InvalidArgument,
            "the attributions of prompt {row} are not numbers: the metric has no gradient on the way"
        );
    }
    let error = (0..rows).map(|r| sum[r] - (metric_at[r] - baseline_at[r])).collect();
    Ok(IntegratedGradients {
        site: options.site.clone(),
        measured: metric.to_string(),
        steps: options.steps,
        metric: metric_at.to_vec(),
        baseline: baseline_at.to_vec(),
        sum,
        completeness_error: error,
        attributions,
        values,
    })
}

fn baseline(model: &Model, trace: &Trace, options: &IntegratedGradientsOptions, value: &Array) -> Result<Array> {
    match &options.baseline {
        Baseline::Zero => tensor::zeros_like(value),
        Baseline::Value(given) => fit(given, value).map_err(|e| e.context("the baseline")),
        Baseline::Prompts(prompts) => {
            let other = model.trace_with(prompts.clone(), &options.runs)?;
            let (own, others) = (trace.batch()?, other.batch()?);
            if own.lengths() != others.lengths() {
                bail!(
                    InvalidArgument,
                    "the prompts have {:?} tokens, those of the baseline {:?}: they must be of the same lengths",
                    own.lengths(),
                    others.lengths()
                );
            }
            other.get(&options.site)
        }
    }
}

/// A fork with a row for each prompt at each share of the way, shares outermost.
fn along(trace: &Trace, site: &str, from: &Array, way: &Array, shares: &[f32], dtype: Dtype) -> Result<Trace> {
    let mut dims = vec![1; way.ndim() + 1];
    dims[0] = shares.len();
    let shares_ = Array::from_slice(shares, &dims)?;
    let points = tensor::add(from, &tensor::mul(&shares_, &tensor::expand_dims(way, 0)?)?)?;
    let fork = trace.fork_rows(shares.len())?;
    fork.set(site, &tensor::cast(&tensor::flatten(&points, 0, 1)?, dtype)?)?;
    Ok(fork)
}

/// The gradient at the site, summed over the copies of each row.
fn summed_gradient(fork: &Trace, site: &str, metric: &Prepared, copies: usize) -> Result<Array> {
    let found = fork.gradients(&[site], |t| metric.of_trace(t))?;
    metric.numbers(&found.metric)?;
    let gradient = tensor::cast(&found.gradients[0], Dtype::Float32)?;
    tensor::sum(&tensor::unflatten(&gradient, 0, &[copies as i32, -1])?, 0, false)
}

/// Sums over all axes but rows and positions; over all but rows where a site has no positions.
fn by_position(model: &Model, trace: &Trace, site: &str, values: &Array) -> Result<Grid> {
    let batch = trace.batch()?;
    let id = model.sites().resolve(site)?;
    let place = model.inner().position_axis(id, values.ndim()).filter(|p| values.dim(*p as i32) == batch.width());
    let mut axes = Vec::new();
    if batch.len() > 1 {
        axes.push(Axis::counted("prompt", batch.len()));
    }
    let mut sums = values.clone();
    for axis in (1..values.ndim()).rev().filter(|a| Some(*a) != place) {
        sums = tensor::sum(&sums, axis as i32, false)?;
    }
    match place {
        Some(_) => axes.push(Axis::new("position", labels(model, &batch)?)),
        None if batch.len() == 1 => axes.push(Axis::new("prompt", ["0"])),
        None => {}
    }
    Grid::of(axes, &sums)
}

impl fmt::Display for IntegratedGradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..self.metric.len() {
            writeln!(
                f,
                "{} {:.4}, at the baseline {:.4}; attributions at '{}' add up to {:.4} ({:+.1e} off, {} steps)",
                self.measured,
                self.metric[row],
                self.baseline[row],
                self.site,
                self.sum[row],
                self.completeness_error[row],
                self.steps
            )?;
        }
        self.attributions.fmt(f)
    }
}
