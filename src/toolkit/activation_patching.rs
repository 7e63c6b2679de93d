//! `activation_patching`: a grid of patches.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::patching::{Distance, Measure, PatchingGrid, PatchingOptions, activation_patching_told};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::{Finding, Metric};
use crate::visualization::heatmap;

pub(super) const TOOL: Tool = Tool {
    name: "activation_patching",
    about: "what putting a value of one run into another does to the answer, place by place",
    arrays: &[],
    metric: true,
    run,
};

/// Every option of a tool beside those of the analysis.
#[derive(Deserialize)]
struct Inputs {
    clean: Prompts,
    corrupt: Prompts,
    #[serde(default)]
    metric: Option<Metric>,
    #[serde(default)]
    distance: Option<Distance>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, mut options): (Inputs, PatchingOptions) =
        call.read_beside(&["clean", "corrupt", "metric", "distance"])?;
    let measure = match inputs.distance {
        Some(_) if inputs.metric.is_some() || call.metric.is_some() => {
            bail!(InvalidArgument, "'{}' takes a metric or a distance, not both", TOOL.name)
        }
        Some(distance) => Measure::Distance(distance),
        None => Measure::Metric(call.metric(inputs.metric)?),
    };
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
        let mut all =
            vec![("raw".to_owned(), self.raw.to_array()?), ("normalised".to_owned(), self.normalised.to_array()?)];
        let by_pair = [("raw_by_pair", &self.raw_by_pair), ("normalised_by_pair", &self.normalised_by_pair)];
        for (name, grid) in by_pair {
            if let Some(grid) = grid {
                all.push((name.to_owned(), grid.to_array()?));
            }
        }
        Ok(all)
    }
}
