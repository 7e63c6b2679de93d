//! What is measured in each run: a metric, or how far the run is from the clean one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Place, Trace, at_places};
use crate::error::Result;
use crate::utils::{Metric, Prepared};

/// A metric of a run, or its distance from the clean run.
#[derive(Clone, Debug)]
pub enum Measure {
    /// At each row's last token; a KL divergence is measured from the clean run.
    Metric(Metric),
    /// From the clean run, at the last token. Normalised it is the recovery
    /// (d(corrupt) - d(patched)) / d(corrupt).
    Distance(Distance),
}

impl From<Metric> for Measure {
    fn from(metric: Metric) -> Self {
        Measure::Metric(metric)
    }
}

impl From<Distance> for Measure {
    fn from(distance: Distance) -> Self {
        Measure::Distance(distance)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Metric(metric) => metric.fmt(f),
            Measure::Distance(distance) => distance.fmt(f),
        }
    }
}

/// A distance between two runs at the last token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distance {
    /// Which.
    pub kind: DistanceKind,
    /// Between which vectors.
    pub of: DistanceOf,
}

/// Kinds of distances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceKind {
    /// Euclidean.
    #[default]
    L2,
    /// Mean square of the differences.
    Mse,
    /// 1 less the cosine of the angle.
    Cosine,
}

/// What a distance is between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DistanceOf {
    /// The logits.
    #[default]
    Logits,
    /// The last layer's residual stream.
    Residual,
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DistanceKind::L2 => "L2",
            DistanceKind::Mse => "mean square",
            DistanceKind::Cosine => "cosine",
        };
        let of = match self.of {
            DistanceOf::Logits => "logits",
            DistanceOf::Residual => "last residual stream",
        };
        write!(f, "{kind} distance of the {of} from the clean run's")
    }
}

impl Distance {
    fn vectors(&self, trace: &Trace) -> Result<Array> {
        let vectors = match self.of {
            DistanceOf::Logits => trace.last_logits()?,
            DistanceOf::Residual => {
                let state = trace.get("layers.-1.output")?;
                let batch = trace.batch()?;
                let last: Vec<Place> = batch.lengths().iter().enumerate().map(|(row, n)| (row, n - 1)).collect();
                at_places(&state, &last)?
            }
        };
        tensor::cast(&vectors, Dtype::Float32)
    }

    fn between(&self, a: &Array, b: &Array) -> Result<Array> {
        match self.kind {
            DistanceKind::L2 => tensor::norm(&tensor::sub(a, b)?, -1, false),
            DistanceKind::Mse => tensor::mean(&tensor::square(&tensor::sub(a, b)?)?, -1, false),
            DistanceKind::Cosine => {
                let dot = tensor::sum(&tensor::mul(a, b)?, -1, false)?;
                let norms = tensor::mul(&tensor::norm(a, -1, false)?, &tensor::norm(b, -1, false)?)?;
                tensor::sub(&tensor::weak(1.0, &dot)?, &tensor::div(&dot, &norms)?)
            }
        }
    }
}

/// A measure ready for runs of one list of prompts.
pub(super) enum Score {
    Metric(Prepared),
    Distance(Distance, Array),
}

impl Score {
    /// `clean` is a trace of the clean prompts, a row each.
    pub fn new(measure: &Measure, model: &Model, clean: &Trace) -> Result<Self> {
        let rows = clean.batch()?.len();
        Ok(match measure {
            Measure::Metric(metric) => {
                let prepared = metric.prepare(model, rows)?;
                match prepared.needs_reference() {
                    true => Score::Metric(prepared.with_reference(&clean.fork()?.last_logits()?)),
                    false => Score::Metric(prepared),
                }
            }
            Measure::Distance(distance) => Score::Distance(*distance, distance.vectors(&clean.fork()?)?),
        })
    }

    /// Whether it may look at any value of a run, not at the last position's outcome alone.
    pub fn sees_all(&self) -> bool {
        matches!(self, Score::Metric(prepared) if prepared.needs_trace())
    }

    /// The number of each row of a trace, lazily; row `i` is prompt `prompts[i]`.
    pub fn of(&self, trace: &Trace, prompts: &[usize]) -> Result<Array> {
        match self {
            Score::Metric(prepared) => prepared.of_prompts(prompts)?.of_trace(trace),
            Score::Distance(distance, clean) => {
                let which: Vec<u32> = prompts.iter().map(|p| *p as u32).collect();
                let clean = tensor::take(clean, &Array::from_slice(&which, &[which.len()])?, 0)?;
                distance.between(&distance.vectors(trace)?, &clean)
            }
        }
    }
}
