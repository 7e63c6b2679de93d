//! `attribution_patching`: what clean values in a corrupt run would do, to first order.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::attribution::{AttributionPatching, AttributionPatchingOptions, attribution_patching};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::{Axis, Finding, Grid, Metric};
use crate::visualization::{bars, heatmap};

pub(super) const TOOL: Tool = Tool {
    name: "attribution_patching",
    about: "what each layer, head and neuron's clean value would change in a corrupt run, estimated from one gradient",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    clean: Prompts,
    corrupt: Prompts,
    #[serde(default)]
    metric: Option<Metric>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (given, mut options): (Given, AttributionPatchingOptions) =
        call.read_beside(&["clean", "corrupt", "metric"])?;
    options.runs = call.trace_options();
    let metric = call.metric(given.metric)?;
    Ok(Box::new(attribution_patching(model, given.clean, given.corrupt, &metric, &options)?))
}

impl Finding for AttributionPatching {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let remark = format!("estimated change of the {} when the corrupt run gets the clean value", self.measured);
        let tables = [
            ("Residual stream before each layer", &self.residual),
            ("Attention", &self.attention),
            ("MLP", &self.mlp),
            ("Heads, all positions", &self.heads),
        ];
        let mut figure: String =
            tables.into_iter().filter_map(|(title, grid)| grid.as_ref().map(|g| heatmap(g, title, &remark))).collect();
        if !self.neurons.is_empty() {
            let names = self.neurons.iter().map(|n| format!("layer {} neuron {}", n.layer, n.neuron));
            let grid =
                Grid { axes: vec![Axis::new("neuron", names)], values: self.neurons.iter().map(|n| n.score).collect() };
            figure.push_str(&bars(&grid, "Neurons, all positions"));
        }
        figure
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(self.scores.clone())
    }
}
