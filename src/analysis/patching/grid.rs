//! Activation patching: a value of one run put into another, a grid of places at a time.
//!
//! Vig et al. 2020 ("Investigating gender bias in language models using causal mediation analysis"), Meng et al. 2022,
//! Wang et al. 2022; for the two directions Heimersheim and Nanda 2024 ("How to use and interpret activation patching").

use std::fmt;

use serde::Serialize;

use super::cells::cells;
use super::difference::Difference;
use super::measure::{Measure, Score};
use super::options::{Component, Direction, PatchingOptions};
use super::pairs::Pairs;
use super::place::axis;
use super::sweep::{Sweep, begin};
use crate::core::arch::tape::Layout;
use crate::core::model::{Model, Prompts, SiteId};
use crate::core::tensor::{self, Array};
use crate::core::trace::{Cache, Trace, TraceOptions};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid, Progress};

/// What a pair of prompts gives without patching.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairScore {
    /// The clean run.
    pub clean: f32,
    /// The corrupted run.
    pub corrupt: f32,
}

/// What patching each place does to a measure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PatchingGrid {
    /// What was patched.
    pub component: Component,
    /// Which run was put into which.
    pub direction: Direction,
    /// What was measured.
    pub measure: String,
    /// The measure of the clean run, averaged over pairs.
    pub clean: f32,
    /// The measure of the corrupted run, averaged over pairs.
    pub corrupt: f32,
    /// By pair.
    pub pairs: Vec<PairScore>,
    /// The measure of the patched run, averaged over pairs.
    pub raw: Grid,
    /// (raw - corrupt) / (clean - corrupt) of the averages: 0 is the corrupted run, 1 the clean one, in either direction. So
    /// denoising begins at 0 and noising at 1.
    pub normalised: Grid,
    /// `raw` of each pair, axis "pair" first; nothing when there is one.
    pub raw_by_pair: Option<Grid>,
    /// `normalised` of each pair by its own clean and corrupted run; nothing when there is one.
    pub normalised_by_pair: Option<Grid>,
    /// Runs of a prompt that were made; the tape told the outcome of the others.
    pub runs: usize,
    /// Whether runs shared layers and positions (see [`Sharing`](super::Sharing)).
    pub staircase: bool,
}

/// Puts one component of the clean run into the corrupted run (or the other way round), place by place, and measures what
/// comes of it. Prompts go in pairs, by row. See [`PatchingGrid`] for what comes back.
///
/// Errors: prompts of a pair that differ in length without an alignment; layers, heads, neurons or positions that are not
/// there; a measure that is not a number, or that is the same for both runs; whatever a metric that is a function raises.
pub fn activation_patching(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    measure: impl Into<Measure>,
    options: &PatchingOptions,
) -> Result<PatchingGrid> {
    activation_patching_told(model, clean, corrupt, measure, options, &mut None)
}

/// [`activation_patching`], telling how many runs are done; who is told may end it.
pub fn activation_patching_told(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    measure: impl Into<Measure>,
    options: &PatchingOptions,
    progress: &mut Progress<'_>,
) -> Result<PatchingGrid> {
    let measure = measure.into();
    let pairs = Pairs::new(model, clean.into(), corrupt.into(), options.align.as_ref())?;
    let layers = layers(model, options)?;
    let plain = options.interventions.is_empty();
    let (base, source) = pairs.runs(options.direction);
    let map = pairs.map(options.direction);
    let trace_options = TraceOptions { interventions: options.interventions.clone(), ..TraceOptions::default() };
    let start = |cache: Option<Cache>| {
        let options = TraceOptions { cache, ..trace_options.clone() };
        model.trace_batch(base.clone(), &options)
    };
    let sees_all = matches!(&measure, Measure::Metric(crate::utils::Metric::Custom(_)));
    let (base_trace, staircase) = begin(model, &start, sees_all, plain, None, options.sharing)?;
    let source_trace = model.trace_batch(source.clone(), &trace_options)?;
    let (mut sites, mut values) = (vec![None; model.num_layers()], vec![None; model.num_layers()]);
    for (layer, site) in &layers {
        let value = source_trace.read(*site)?;
        let layout = model.inner().layout(*site);
        let named = |e: crate::error::Error| e.context(options.component.site(*layer));
        sites[*layer] = Some(*site);
        values[*layer] = Some(in_place(&value, layout, &map, base.width(), source.width()).map_err(named)?);
    }
    let numbers: Vec<usize> = layers.iter().map(|(layer, _)| *layer).collect();
    let parts = parts(model, options.component, &sites, &values)?;
    let (axes, cells) = cells(model, options, &numbers, parts, base, &map, pairs.told)?;
    // The runs as they are.
    let (clean_trace, corrupt_trace) = match options.direction {
        Direction::Denoising => (&source_trace, &base_trace),
        Direction::Noising => (&base_trace, &source_trace),
    };
    let score = Score::new(&measure, model, clean_trace)?;
    let prompts: Vec<usize> = (0..base.len()).collect();
    let whole = |trace: &Trace| score.of(&trace.fork()?, &prompts);
    let (clean, corrupt) = (whole(clean_trace)?, whole(corrupt_trace)?);
    Array::eval_all(values.iter().flatten().chain([&clean, &corrupt]))?;
    let (clean, corrupt) = (unpatched(&clean, "clean")?, unpatched(&corrupt, "corrupted")?);
    let (before, other) = match options.direction {
        Direction::Denoising => (&corrupt, &clean),
        Direction::Noising => (&clean, &corrupt),
    };
    gaps(&clean, &corrupt, &measure)?;
    let difference = |i: usize| Difference::between(&base.rows()[i], &source.rows()[i], &map[i]);
    let sweep = Sweep {
        model,
        start: &start,
        staircase,
        prompts: base.rows(),
        sites,
        values,
        differences: (0..base.len()).map(difference).collect(),
        score: &score,
        unpatched: before,
        restored: other,
        plain,
        tokens_at_once: options.tokens_at_once,
    };
    let shape = Grid::new(axes.clone(), vec![0.0; cells.len()])?;
    let name = |cell: usize| {
        let place = shape.place(cell);
        let named = place.iter().zip(&axes).map(|(p, a)| format!("{} {}", a.name, a.labels[*p]));
        format!("{} of {}", options.component, named.collect::<Vec<_>>().join(", "))
    };
    let swept = sweep.run(&cells, &name, progress)?;
    let scores: Vec<PairScore> =
        clean.iter().zip(&corrupt).map(|(clean, corrupt)| PairScore { clean: *clean, corrupt: *corrupt }).collect();
    let staircase = sweep.staircase.is_some();
    found(options, &measure, axes, scores, swept.scores, swept.runs, staircase)
}

/// The layers that are patched, with the component's site in each.
fn layers(model: &Model, options: &PatchingOptions) -> Result<Vec<(usize, SiteId)>> {
    let n = model.num_layers();
    let site = |layer: usize| model.sites().resolve(&options.component.site(layer)).map(|site| (layer, site));
    if let Some(list) = &options.layers {
        return super::cells::numbered(list, n, "layer")?.into_iter().map(site).collect();
    }
    let all: Vec<(usize, SiteId)> = (0..n).filter_map(|layer| site(layer).ok()).collect();
    match all.is_empty() {
        true => {
            site(0).map(|first| vec![first]).map_err(|e| e.context(format!("no layer has '{}'", options.component)))
        }
        false => Ok(all),
    }
}

/// How many heads or neurons the component has: the same in all layers.
fn parts(model: &Model, component: Component, sites: &[Option<SiteId>], values: &[Option<Array>]) -> Result<usize> {
    let name = if component == Component::Neuron { "feature" } else { "head" };
    let mut found = None;
    for (layer, (site, value)) in sites.iter().zip(values).enumerate() {
        let (Some(site), Some(value)) = (site, value) else { continue };
        let Some(at) = axis(model.inner().layout(*site), name) else { continue };
        let n = value.dim(at as i32);
        match found {
            Some((_, first)) if first == n => {}
            None => found = Some((layer, n)),
            Some((other, first)) => bail!(
                InvalidArgument,
                "'{component}' has {first} parts in layer {other} and {n} in layer {layer}: choose layers that have as many"
            ),
        }
    }
    Ok(found.map_or(0, |(_, n)| n))
}

/// A value of the run it comes from with its positions where they are put.
fn in_place(value: &Array, layout: Layout, map: &[Vec<(usize, usize)>], width: usize, own: usize) -> Result<Array> {
    if own == width && map.iter().flatten().all(|(to, from)| to == from) {
        return Ok(value.clone());
    }
    if axis(layout, "key").is_some() {
        bail!(InvalidArgument, "patterns can only be patched between prompts of one length, position by position");
    }
    let Some(at) = axis(layout, "position") else {
        bail!(Unsupported, "a value of shape {:?} has no positions to align", value.shape());
    };
    let mut from = vec![0_i32; map.len() * width];
    for (row, of_pair) in map.iter().enumerate() {
        of_pair.iter().for_each(|(to, source)| from[row * width + to] = *source as i32);
    }
    let mut dims = vec![1; value.ndim()];
    (dims[0], dims[at]) = (map.len(), width);
    let mut shape = value.shape().to_vec();
    shape[at] = width as i32;
    let from = tensor::broadcast_to(&Array::from_slice(&from, &dims)?, &shape)?;
    tensor::take_along(value, &from, at as i32)
}

fn unpatched(scores: &Array, which: &str) -> Result<Vec<f32>> {
    let numbers = scores.to_vec::<f32>()?;
    match numbers.iter().position(|v| !v.is_finite()) {
        None => Ok(numbers),
        Some(i) => bail!(
            InvalidArgument,
            "the metric of the {which} run of pair {i} is not a number ({}): check the prompt, the interventions and the \
             metric itself",
            numbers[i]
        ),
    }
}

/// Refuses to divide by nothing.
fn gaps(clean: &[f32], corrupt: &[f32], measure: &Measure) -> Result<()> {
    let none = |a: f32, b: f32| (a - b).abs() <= 4.0 * f32::EPSILON * a.abs().max(b.abs());
    if let Some(i) = (0..clean.len()).find(|i| none(clean[*i], corrupt[*i])) {
        bail!(
            InvalidArgument,
            "pair {i}: the {measure} is {} in the clean and {} in the corrupted run, so there is nothing to restore: choose \
             prompts or a metric that tell the runs apart",
            clean[i],
            corrupt[i]
        );
    }
    let (a, b) = (mean(clean), mean(corrupt));
    if none(a, b) {
        bail!(
            InvalidArgument,
            "the {measure} is {a} in the clean and {b} in the corrupted runs on average, so there is nothing to restore: do \
             some pairs have answer and wrong answer the other way round?"
        );
    }
    Ok(())
}

fn mean(numbers: &[f32]) -> f32 {
    numbers.iter().sum::<f32>() / numbers.len().max(1) as f32
}

#[allow(clippy::too_many_arguments)]
fn found(
    options: &PatchingOptions,
    measure: &Measure,
    axes: Vec<Axis>,
    pairs: Vec<PairScore>,
    scores: Vec<f32>,
    runs: usize,
    staircase: bool,
) -> Result<PatchingGrid> {
    let n = pairs.len();
    // Plus zero: none is no less than none.
    let share = |value: f32, of: &PairScore| (value - of.corrupt) / (of.clean - of.corrupt) + 0.0;
    let raw: Vec<f32> = scores.chunks(n).map(mean).collect();
    let whole = PairScore {
        clean: mean(&pairs.iter().map(|p| p.clean).collect::<Vec<_>>()),
        corrupt: mean(&pairs.iter().map(|p| p.corrupt).collect::<Vec<_>>()),
    };
    let normalised = raw.iter().map(|v| share(*v, &whole)).collect();
    let by_pair = |f: &dyn Fn(f32, &PairScore) -> f32| {
        let values = (0..n).flat_map(|p| scores.iter().skip(p).step_by(n).map(move |v| (p, *v)));
        let axes = [vec![Axis::counted("pair", n)], axes.clone()].concat();
        (n > 1).then(|| Grid::new(axes, values.map(|(p, v)| f(v, &pairs[p])).collect())).transpose()
    };
    Ok(PatchingGrid {
        component: options.component,
        direction: options.direction,
        measure: measure.to_string(),
        clean: whole.clean,
        corrupt: whole.corrupt,
        raw_by_pair: by_pair(&|v, _| v)?,
        normalised_by_pair: by_pair(&share)?,
        raw: Grid::new(axes.clone(), raw)?,
        normalised: Grid::new(axes.clone(), normalised)?,
        pairs,
        runs,
        staircase,
    })
}

impl fmt::Display for PatchingGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.direction {
            Direction::Denoising => "clean into corrupted",
            Direction::Noising => "corrupted into clean",
        };
        writeln!(f, "{} patched, {way}; {}", self.component, self.measure)?;
        writeln!(f, "clean {:.4}, corrupted {:.4}; 0 = corrupted, 1 = clean", self.clean, self.corrupt)?;
        self.normalised.fmt(f)
    }
}
