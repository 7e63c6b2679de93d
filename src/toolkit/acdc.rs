//! `acdc`: the edges that a metric needs, searched one by one.

use serde::Deserialize;
use serde_json::Value;

use super::circuit::draw;
use super::{Call, Tool};
use crate::analysis::circuits::{Acdc, AcdcOptions, acdc};
use crate::core::model::{Model, Prompts};
use crate::error::Result;
use crate::utils::{Finding, Metric};

pub(super) const TOOL: Tool = Tool {
    name: "acdc",
    about: "the circuit that is left when every edge is cut that costs less than a threshold (ACDC)",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    clean: Prompts,
    corrupt: Prompts,
    #[serde(default = "divergence")]
    metric: Metric,
}

fn divergence() -> Metric {
    Metric::KlDivergence
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (given, mut options): (Given, AcdcOptions) = call.read_beside(&["clean", "corrupt", "metric"])?;
    options.runs = call.trace_options();
    let metric = call.metric(Some(given.metric))?;
    Ok(Box::new(acdc(model, given.clean, given.corrupt, &metric, &options, call.progress.take())?))
}

impl Finding for Acdc {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let remark = format!(
            "{} of {} edges, kept at a threshold of {} in the {}; width by what cutting the edge would cost",
            self.circuit.edges.len(),
            self.circuit.graph.edges(),
            self.threshold,
            self.measured
        );
        draw(&self.circuit, "Circuit", &remark)
    }
}
