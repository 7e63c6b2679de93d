//! `activation_patching`: a grid of patches.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::patching::{Distance, Measure, PatchingGrid, PatchingOptions, activation_patching_told};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::{Finding, Grid, Metric};
use crate::visualization::heatmap;

pub(super) const TOOL: Tool = Tool {
    name: "activation_patching",
    about: "what putting a value of one run into another does to the answer, place by place",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
struct Inputs {
    clean: Prompts,
    corrupt: Prompts,
    #[serde(flatten)]
    measured: Measured,
}

/// What is measured: a metric or a distance.
#[derive(Deserialize)]
pub(super) struct Measured {
    #[serde(default)]
    metric: Option<Metric>,
    #[serde(default)]
    distance: Option<Distance>,
}

impl Measured {
    /// The call's function, the metric named, or the distance; an error for none and for both.
    pub(super) fn of(self, call: &Call<'_>) -> Result<Measure> {
        match self.distance {
            Some(_) if self.metric.is_some() || call.metric.is_some() => {
                bail!(InvalidArgument, "a metric and a `distance` were given: which is it?")
            }
            Some(distance) => Ok(Measure::Distance(distance)),
            None => call.metric(self.metric).map(Measure::Metric),
        }
    }
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, mut options): (Inputs, PatchingOptions) =
        call.read_beside(&["clean", "corrupt", "metric", "distance"])?;
    let measure = inputs.measured.of(call)?;
    options.interventions = call.interventions.clone();
    let found = activation_patching_told(model, inputs.clean, inputs.corrupt, measure, &options, &mut call.progress)?;
    Ok(Box::new(found))
}

impl Finding for PatchingGrid {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let title = format!("Patching {}", self.component);
        let remark = format!(
            "{}; clean {:.4}, corrupted {:.4}. 0 is the corrupted run, 1 the clean one.",
            self.measure, self.clean, self.corrupt
        );
        heatmap(&self.normalised, &title, &remark)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        grids(&self.raw, &self.normalised, &self.raw_by_pair, &self.normalised_by_pair)
    }
}

/// Grids of patches as arrays.
pub(super) fn grids(
    raw: &Grid,
    normalised: &Grid,
    raw_by_pair: &Option<Grid>,
    normalised_by_pair: &Option<Grid>,
) -> Result<Vec<(String, Array)>> {
    let all = [
        ("raw", Some(raw)),
        ("normalised", Some(normalised)),
        ("raw_by_pair", raw_by_pair.as_ref()),
        ("normalised_by_pair", normalised_by_pair.as_ref()),
    ];
    let there = all.into_iter().filter_map(|(name, grid)| Some((name.to_owned(), grid?)));
    there.map(|(name, grid)| Ok((name, grid.to_array()?))).collect()
}
