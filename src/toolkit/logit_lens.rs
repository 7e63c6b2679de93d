//! `logit_lens`: what the model would say if it stopped after each layer.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::interpretability::lens::{LensOptions, LogitLens, Shade, lens_of};
use crate::utils::Finding;
use crate::visualization::lens_figure;

pub(super) const TOOL: Tool = Tool {
    name: "logit_lens",
    about: "what the model would say if it stopped after each layer, at every position",
    arrays: &[],
    metric: false,
    run,
};

/// What a lens takes besides what it reads.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    prompts: Prompts,
    /// What colours the figure.
    #[serde(default)]
    shade: Shade,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, options): (Inputs, LensOptions) = call.read_beside(&["prompts", "shade"])?;
    let trace = model.trace_with(inputs.prompts, &call.trace_options())?;
    let lens = lens_of(&trace, &options, &mut call.progress)?;
    Ok(Box::new(Seen { kind: TOOL.name, lens, shade: inputs.shade }))
}

/// What a lens saw, as a result.
pub(super) struct Seen {
    pub kind: &'static str,
    pub lens: LogitLens,
    pub shade: Shade,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lens.fmt(f)
    }
}

impl Finding for Seen {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(&self.lens)
    }

    fn figure(&self) -> String {
        let title = match self.lens.lens {
            "tuned lens" => "Tuned lens",
            _ => "Logit lens",
        };
        lens_figure(&self.lens, self.shade, title)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        self.lens.arrays()
    }
}
