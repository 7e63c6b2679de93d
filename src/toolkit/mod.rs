//! Every analysis by name: options in JSON, a [`Finding`] back. What the front ends and the command line call.
//!
//! The analyses themselves are functions with typed options in `analysis` and `interpretability`; Rust callers use those.
//! A file here is the way in for everybody else: it reads a tool's options (unknown ones are errors), calls the function,
//! and says how the result is drawn. So a new tool is reached from C, C++, Swift, Python and the command line by being
//! listed in [`TOOLS`], and its options mean the same everywhere.

mod acdc;
mod activation_patching;
mod attention_patterns;
mod attribution_patching;
mod call;
mod causal_tracing;
mod circuit;
mod composition_scores;
mod copying_scores;
mod das;
mod direct_logit_attribution;
mod edge_attribution;
mod gradients;
mod harvest;
mod head_circuit;
mod head_scores;
mod integrated_gradients;
mod logit_lens;
mod patchscope;
mod path_patching;
mod probe;
mod steering_vectors;
mod tuned_lens;
mod tuned_lens_train;

pub use call::Call;

use crate::core::model::Model;
use crate::error::{Result, err, nearest};
use crate::utils::Finding;

/// One analysis.
pub struct Tool {
    /// Its name ("logit_lens").
    pub name: &'static str,
    /// What it finds out, in one sentence.
    pub about: &'static str,
    /// Arrays that it takes by name, besides its options.
    pub arrays: &'static [&'static str],
    /// Whether it measures something, so that a metric may be a function of the front end.
    pub metric: bool,
    /// Does it.
    pub run: fn(&Model, &mut Call<'_>) -> Result<Box<dyn Finding>>,
}

/// All of them, by name.
pub const TOOLS: &[Tool] = &[
    acdc::TOOL,
    activation_patching::TOOL,
    attention_patterns::TOOL,
    attribution_patching::TOOL,
    causal_tracing::TOOL,
    circuit::TOOL,
    composition_scores::TOOL,
    copying_scores::TOOL,
    das::TOOL,
    direct_logit_attribution::TOOL,
    edge_attribution::TOOL,
    gradients::TOOL,
    harvest::TOOL,
    head_circuit::TOOL,
    head_scores::TOOL,
    integrated_gradients::TOOL,
    logit_lens::TOOL,
    patchscope::TOOL,
    path_patching::TOOL,
    probe::TOOL,
    steering_vectors::TOOL,
    tuned_lens::TOOL,
    tuned_lens_train::TOOL,
];

/// The tool of a name; an error with the nearest names when there is none.
pub fn tool(name: &str) -> Result<&'static Tool> {
    TOOLS.iter().find(|t| t.name == name).ok_or_else(|| {
        let near = nearest(name, TOOLS.iter().map(|t| t.name), 2);
        let all: Vec<&str> = TOOLS.iter().map(|t| t.name).collect();
        match near.as_slice() {
            [] => err!(InvalidArgument, "no tool '{name}': there are {}", all.join(", ")),
            near => err!(InvalidArgument, "no tool '{name}': did you mean '{}'?", near.join("' or '")),
        }
    })
}

/// Runs a tool. Its errors say which tool it was.
pub fn run(model: &Model, name: &str, mut call: Call<'_>) -> Result<Box<dyn Finding>> {
    let tool = tool(name)?;
    call.check(tool)?;
    (tool.run)(model, &mut call)
}
