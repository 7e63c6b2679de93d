//! `patchscope`: hidden states read by the model itself, in another prompt.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::error::Result;
use crate::interpretability::lens::{Mapping, Patchscope, PatchscopeOptions, patchscope_of};
use crate::utils::Finding;
use crate::visualization::patchscope_figure;

pub(super) const TOOL: Tool = Tool {
    name: "patchscope",
    about: "what the model itself makes of a hidden state that is put into another prompt",
    arrays: &["weight", "bias"],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    source: Prompts,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, options): (Inputs, PatchscopeOptions) = call.read_beside(&["source"])?;
    let mapping = Mapping { weight: call.array("weight").cloned(), bias: call.array("bias").cloned() };
    let source = model.trace_with(inputs.source, &call.trace_options())?;
    Ok(Box::new(Found(patchscope_of(&source, &mapping, &options, &mut call.progress)?)))
}

struct Found(Patchscope);

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
        patchscope_figure(&self.0, "Patchscope")
    }
}
