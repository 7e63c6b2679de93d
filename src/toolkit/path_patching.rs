//! `path_patching`: what parts tell each other directly.

use serde::Deserialize;
use serde_json::Value;

use super::activation_patching::{Measured, grids};
use super::{Call, Tool};
use crate::analysis::patching::{PathPatch, PathPatchingOptions, path_patching_told};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::Finding;
use crate::visualization::{bars, heatmap};

pub(super) const TOOL: Tool = Tool {
    name: "path_patching",
    about: "what each head or MLP tells chosen parts, or the logits, directly",
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

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, mut options): (Inputs, PathPatchingOptions) =
        call.read_beside(&["clean", "corrupt", "metric", "distance"])?;
    let measure = inputs.measured.of(call)?;
    options.interventions = call.interventions.clone();
    Ok(Box::new(path_patching_told(model, inputs.clean, inputs.corrupt, measure, &options, &mut call.progress)?))
}

impl Finding for PathPatch {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let title = format!("Paths to {}", self.receivers.join(", "));
        if self.normalised.axes.len() == 1 {
            return bars(&self.normalised, &title);
        }
        let remark = format!(
            "{}; clean {:.4}, corrupted {:.4}. 1: the path does nothing; 0: it carries all.",
            self.measure, self.clean, self.corrupt
        );
        heatmap(&self.normalised, &title, &remark)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        grids(&self.raw, &self.normalised, &self.raw_by_pair, &self.normalised_by_pair)
    }
}
