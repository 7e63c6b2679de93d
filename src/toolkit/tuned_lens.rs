//! `tuned_lens`: the logit lens through a trained map for each layer.

use std::path::PathBuf;

use serde::Deserialize;

use super::logit_lens::Seen;
use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::error::{Result, bail};
use crate::interpretability::lens::{LensOptions, Shade, TunedLens, tuned_lens_of};
use crate::utils::Finding;

pub(super) const TOOL: Tool = Tool {
    name: "tuned_lens",
    about: "what the model would say if it stopped after each layer, read through a trained map for each",
    arrays: &["weights", "biases"],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    prompts: Prompts,
    #[serde(default)]
    shade: Shade,
    /// The lens' file, unless its maps are given as arrays.
    #[serde(default)]
    lens: Option<PathBuf>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, options): (Inputs, LensOptions) = call.read_beside(&["prompts", "shade", "lens"])?;
    let lens = match (&inputs.lens, call.array("weights"), call.array("biases")) {
        (Some(file), None, None) => TunedLens::load(file)?,
        (None, Some(weights), Some(biases)) => TunedLens::of_arrays(weights, biases)?,
        _ => bail!(InvalidArgument, "'tuned_lens' needs a lens: a file (lens), or the arrays 'weights' and 'biases'"),
    };
    let trace = model.trace_with(inputs.prompts, &call.trace_options())?;
    let lens = tuned_lens_of(&trace, &lens, &options, &mut call.progress)?;
    Ok(Box::new(Seen { kind: TOOL.name, lens, shade: inputs.shade }))
}
