//! `mlxterp gradients`.

use clap::Args;
use mlxterp::Result;
use serde_json::{Value, json};

use crate::finding::Shown;
use crate::load::Source;

/// The gradient of a metric at sites.
#[derive(Args)]
pub struct Gradients {
    #[command(flatten)]
    model: Source,
    /// The prompt.
    prompt: String,
    /// Site or pattern; may be given several times.
    #[arg(long = "site", value_name = "SITE", required = true)]
    sites: Vec<String>,
    #[command(flatten)]
    metric: Measured,
    #[command(flatten)]
    shown: Shown,
}

/// A metric in arguments.
#[derive(Args)]
pub struct Measured {
    /// The right next token, exactly one (" Paris").
    #[arg(long)]
    answer: String,
    /// The wrong one: the metric is then the logit difference, else the answer's log probability.
    #[arg(long)]
    wrong: Option<String>,
}

impl Measured {
    /// The metric as options say it.
    pub fn option(&self) -> Value {
        match &self.wrong {
            Some(wrong) => json!({ "logit_difference": { "answer": self.answer, "wrong": wrong } }),
            None => json!({ "log_probability": { "answer": self.answer } }),
        }
    }
}

impl Measured {
    /// The right token, where there is no wrong one.
    pub fn answer_alone(&self) -> Option<&str> {
        self.wrong.is_none().then_some(self.answer.as_str())
    }
}

impl Gradients {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let options = json!({ "prompts": self.prompt, "sites": self.sites, "metric": self.metric.option() });
        self.shown.run(&self.model.load()?, "gradients", options).map(drop)
    }
}
