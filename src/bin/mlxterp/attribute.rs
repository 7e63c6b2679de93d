//! `mlxterp attribute`.

use clap::Args;
use mlxterp::Result;
use serde_json::json;

use crate::finding::Shown;
use crate::gradients::Measured;
use crate::load::Source;

/// How much each token, or each part of the model, contributes to an answer.
#[derive(Args)]
pub struct Attribute {
    #[command(flatten)]
    model: Source,
    /// The prompt.
    prompt: String,
    /// A prompt of as many tokens with another answer: attribution patching of every layer, head and neuron, what each
    /// clean value would change in this one's run. Without it: integrated gradients of the prompt's tokens.
    #[arg(long)]
    corrupt: Option<String>,
    /// Only these components: residual, attention, mlp, head, neuron.
    #[arg(long, value_delimiter = ',', requires = "corrupt")]
    components: Option<Vec<String>>,
    /// Integrated gradients here instead of at the embedding.
    #[arg(long, value_name = "SITE", conflicts_with = "corrupt")]
    site: Option<String>,
    /// Points between the baseline and the value.
    #[arg(long, conflicts_with = "corrupt")]
    steps: Option<usize>,
    /// A prompt of as many tokens to begin at, instead of zeros.
    #[arg(long, value_name = "PROMPT", conflicts_with = "corrupt")]
    baseline: Option<String>,
    #[command(flatten)]
    metric: Measured,
    #[command(flatten)]
    shown: Shown,
}

impl Attribute {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let metric = self.metric.option();
        let (tool, options) = match &self.corrupt {
            Some(corrupt) => (
                "attribution_patching",
                json!({ "clean": self.prompt, "corrupt": corrupt, "metric": metric, "components": self.components }),
            ),
            None => (
                "integrated_gradients",
                json!({
                    "prompts": self.prompt,
                    "metric": metric,
                    "site": self.site,
                    "steps": self.steps,
                    "baseline": self.baseline.as_ref().map(|prompt| json!({ "prompts": prompt })),
                }),
            ),
        };
        self.shown.run(&self.model.load()?, tool, options).map(drop)
    }
}
