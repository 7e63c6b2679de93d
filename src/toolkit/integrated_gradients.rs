//! `integrated_gradients`: a metric attributed to the values of a site.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::attribution::{Baseline, IntegratedGradients, IntegratedGradientsOptions, integrated_gradients};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::{Finding, Metric};
use crate::visualization::{bars, heatmap};

pub(super) const TOOL: Tool = Tool {
    name: "integrated_gradients",
    about: "a metric attributed to the tokens or to any site's values, from a baseline (integrated gradients)",
    arrays: &["baseline"],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    prompts: Prompts,
    #[serde(default)]
    metric: Option<Metric>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (given, mut options): (Given, IntegratedGradientsOptions) = call.read_beside(&["prompts", "metric"])?;
    options.runs = call.trace_options();
    if let Some(array) = call.array("baseline") {
        if !matches!(options.baseline, Baseline::Zero) {
            bail!(InvalidArgument, "a baseline was given twice: as an array, and in the options");
        }
        options.baseline = Baseline::Value(array.clone());
    }
    let metric = call.metric(given.metric)?;
    Ok(Box::new(integrated_gradients(model, given.prompts, &metric, &options, call.progress.take())?))
}

impl Finding for IntegratedGradients {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let remark = format!(
            "{} attributed to '{}' in {} steps; the sum is at most {:.1e} off",
            self.measured,
            self.site,
            self.steps,
            self.completeness_error.iter().fold(0.0_f32, |m, e| m.max(e.abs()))
        );
        match self.attributions.axes.len() {
            1 => bars(&self.attributions, &format!("Integrated gradients: {remark}")),
            _ => heatmap(&self.attributions, "Integrated gradients", &remark),
        }
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("attributions".to_owned(), self.values.clone())])
    }
}
