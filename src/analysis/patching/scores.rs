//! Scores of runs: what they are without a patch, averaged over pairs, and normalised.

use serde::Serialize;

use super::measure::Measure;
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid};

/// What a pair of prompts gives without patching.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairScore {
    /// The clean run.
    pub clean: f32,
    /// The corrupted run.
    pub corrupt: f32,
}

/// Scores of cells, averaged and by pair.
pub(super) struct Averages {
    pub whole: PairScore,
    pub raw: Grid,
    pub normalised: Grid,
    pub raw_by_pair: Option<Grid>,
    pub normalised_by_pair: Option<Grid>,
}

impl Averages {
    /// Of scores by cell, then by pair.
    pub fn of(axes: Vec<Axis>, pairs: &[PairScore], scores: &[f32]) -> Result<Self> {
        let n = pairs.len();
        // Plus zero: nothing at all is never -0.
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
        Ok(Self {
            whole,
            raw_by_pair: by_pair(&|v, _| v)?,
            normalised_by_pair: by_pair(&share)?,
            raw: Grid::new(axes.clone(), raw)?,
            normalised: Grid::new(axes, normalised)?,
        })
    }
}

/// The scores of runs without a patch, computed now; an error when one is not a number.
pub(super) fn unpatched(scores: &Array, which: &str) -> Result<Vec<f32>> {
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
pub(super) fn gaps(clean: &[f32], corrupt: &[f32], measure: &Measure) -> Result<()> {
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

/// The average.
pub(super) fn mean(numbers: &[f32]) -> f32 {
    numbers.iter().sum::<f32>() / numbers.len().max(1) as f32
}
