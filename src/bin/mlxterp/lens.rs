//! `mlxterp lens` and `mlxterp dla`.

use clap::Args;
use mlxterp::Result;
use serde_json::json;

use crate::finding::Shown;
use crate::load::Source;

/// What the model would say if it stopped after each layer.
#[derive(Args)]
pub struct Lens {
    #[command(flatten)]
    model: Source,
    /// The prompts.
    #[arg(required = true)]
    prompts: Vec<String>,
    /// What to read of each layer: resid_pre, resid_mid, resid_post, attn, mlp.
    #[arg(long, default_value = "resid_post")]
    component: String,
    /// A layer, negative from the end; may be given several times. All of them by default.
    #[arg(long = "layer", value_name = "LAYER", allow_negative_numbers = true)]
    layers: Vec<i64>,
    /// How many of the likeliest tokens in each cell.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// A token whose probability and rank are told (" Paris"); may be given several times.
    #[arg(long = "target", value_name = "TOKEN")]
    targets: Vec<String>,
    /// What colours the figure: probability, entropy, kl, rank.
    #[arg(long, default_value = "probability")]
    shade: String,
    #[command(flatten)]
    shown: Shown,
}

impl Lens {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let options = json!({
            "prompts": self.prompts,
            "component": self.component,
            "layers": (!self.layers.is_empty()).then_some(&self.layers),
            "top": self.top,
            "targets": self.targets,
            "shade": self.shade,
        });
        self.shown.run(&self.model.load()?, "logit_lens", options).map(drop)
    }
}

/// Which parts of the model put how much into a logit.
#[derive(Args)]
pub struct Dla {
    #[command(flatten)]
    model: Source,
    /// The prompts.
    #[arg(required = true)]
    prompts: Vec<String>,
    /// The token whose logit it is (" Paris"); the likeliest by default.
    #[arg(long)]
    answer: Option<String>,
    /// A token whose logit is subtracted.
    #[arg(long)]
    wrong: Option<String>,
    /// The position, negative from each prompt's end.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    position: i64,
    /// Tell attention apart by heads.
    #[arg(long)]
    heads: bool,
    /// Tell MLPs apart by neurons, and name so many of the largest.
    #[arg(long, default_value_t = 0)]
    neurons: usize,
    /// Take the final norm by its gradient instead of with the scale of this run.
    #[arg(long)]
    linearised: bool,
    #[command(flatten)]
    shown: Shown,
}

impl Dla {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let options = json!({
            "prompts": self.prompts,
            "answer": self.answer,
            "wrong": self.wrong,
            "position": self.position,
            "heads": self.heads,
            "neurons": self.neurons,
            "norm": if self.linearised { "linearised" } else { "frozen" },
        });
        self.shown.run(&self.model.load()?, "direct_logit_attribution", options).map(drop)
    }
}
