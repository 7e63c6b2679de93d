//! `attention_patterns`: where each head looks in a prompt.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::attention::{AttentionPatterns, attention_patterns};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::Finding;
use crate::visualization::patterns;

pub(super) const TOOL: Tool = Tool {
    name: "attention_patterns",
    about: "where each head of each layer looks in one prompt",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    prompt: Prompts,
    #[serde(default)]
    layers: Option<Vec<usize>>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let options: Options = call.read()?;
    let layers = options.layers.as_deref();
    Ok(Box::new(attention_patterns(model, options.prompt, layers, &call.trace_options())?))
}

impl Finding for AttentionPatterns {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        patterns(&self.patterns, &self.tokens, "Attention patterns")
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("patterns".to_owned(), self.patterns.to_array()?)])
    }
}
