//! `direct_logit_attribution`: what every part of the model puts into a logit.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::interpretability::lens::{AttributionOptions, LogitAttribution, attribution_of};
use crate::utils::Finding;
use crate::visualization::attribution_figure;

pub(super) const TOOL: Tool = Tool {
    name: "direct_logit_attribution",
    about: "a logit, or the difference of two, as the sum of what layers, attention, MLPs, heads and neurons put into it",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    prompts: Prompts,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, options): (Inputs, AttributionOptions) = call.read_beside(&["prompts"])?;
    let trace = model.trace_with(inputs.prompts, &call.trace_options())?;
    Ok(Box::new(Found(attribution_of(&trace, &options, &mut call.progress)?)))
}

struct Found(LogitAttribution);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(&self.0)
    }

    fn figure(&self) -> String {
        attribution_figure(&self.0, "Direct logit attribution")
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        self.0.arrays()
    }
}
