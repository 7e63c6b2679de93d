//! `causal_tracing`: noise on the subject, clean states put back.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::patching::{CausalTrace, CausalTracingOptions, causal_tracing_told};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::Finding;
use crate::visualization::heatmap;

pub(super) const TOOL: Tool = Tool {
    name: "causal_tracing",
    about: "which clean states bring an answer back after noise on the subject",
    arrays: &["noise"],
    metric: false,
    run,
};

#[derive(Deserialize)]
struct Inputs {
    prompt: Prompts,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, mut options): (Inputs, CausalTracingOptions) = call.read_beside(&["prompt"])?;
    options.interventions = call.interventions.clone();
    let noise = call.array("noise").cloned();
    Ok(Box::new(causal_tracing_told(model, inputs.prompt, &options, noise.as_ref(), &mut call.progress)?))
}

impl Finding for CausalTrace {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let title = format!("Restoring {}: what it adds to the probability of {:?}", self.component, self.answer);
        let remark = format!(
            "Clean {:.4}, with noise on the subject {:.4}, averaged over {} samples; {} layers restored together.",
            self.clean,
            self.corrupt,
            self.corrupt_by_sample.len(),
            self.window
        );
        heatmap(&self.effect, &title, &remark)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let corrupt = Array::from_slice(&self.corrupt_by_sample, &[self.corrupt_by_sample.len()])?;
        Ok(vec![
            ("restored".to_owned(), self.restored.to_array()?),
            ("effect".to_owned(), self.effect.to_array()?),
            ("restored_by_sample".to_owned(), self.restored_by_sample.to_array()?),
            ("corrupt_by_sample".to_owned(), corrupt),
        ])
    }
}
