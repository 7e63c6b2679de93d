//! `mlxterp lens`, `mlxterp dla`, `mlxterp tune-lens` and `mlxterp patchscope`.

use std::path::PathBuf;

use clap::Args;
use mlxterp::{Error, ErrorKind, Result};
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
    /// A tuned lens to read through: a .safetensors file, or the .npz and .json of the Python mlxterp.
    #[arg(long, value_name = "FILE")]
    tuned: Option<PathBuf>,
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
            "lens": self.tuned,
        });
        let tool = if self.tuned.is_some() { "tuned_lens" } else { "logit_lens" };
        self.shown.run(&self.model.load()?, tool, options).map(drop)
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

/// Learn a tuned lens from texts.
#[derive(Args)]
pub struct TuneLens {
    #[command(flatten)]
    model: Source,
    /// Files with the texts; paragraphs (an empty line between) are texts of their own.
    #[arg(required = true)]
    texts: Vec<PathBuf>,
    /// Where the lens goes: a name that ends in .safetensors.
    #[arg(long, value_name = "FILE")]
    save: PathBuf,
    /// A layer to train, negative from the end; may be given several times. All but the last by default.
    #[arg(long = "layer", value_name = "LAYER", allow_negative_numbers = true)]
    layers: Vec<i64>,
    /// How many steps at most.
    #[arg(long)]
    steps: Option<usize>,
    /// How many tokens each step looks at.
    #[arg(long)]
    positions: Option<usize>,
    /// adam or sgd.
    #[arg(long)]
    optimiser: Option<String>,
    /// The rate at the beginning.
    #[arg(long)]
    rate: Option<f64>,
    /// Of the shuffling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    shown: Shown,
}

impl TuneLens {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let mut texts = Vec::new();
        for file in &self.texts {
            let failed = |e: std::io::Error| Error::new(ErrorKind::Io, format!("{}: {e}", file.display()));
            let text = std::fs::read_to_string(file).map_err(failed)?;
            texts.extend(text.split("\n\n").map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned));
        }
        let options = json!({
            "texts": texts,
            "save": self.save,
            "layers": (!self.layers.is_empty()).then_some(&self.layers),
            "steps": self.steps,
            "positions": self.positions,
            "optimiser": self.optimiser,
            "rate": self.rate,
            "seed": self.seed,
        });
        self.shown.run(&self.model.load()?, "tuned_lens_train", options).map(drop)
    }
}

/// What the model itself makes of a hidden state that is put into another prompt.
#[derive(Args)]
pub struct PatchscopeCommand {
    #[command(flatten)]
    model: Source,
    /// The prompt whose states are read, at its last token unless --position says otherwise.
    source: String,
    /// The prompt that a state is put into; by default one that asks for the token itself.
    #[arg(long)]
    target: Option<String>,
    /// A layer to read, negative from the end; may be given several times. All of them by default.
    #[arg(long = "layer", value_name = "LAYER", allow_negative_numbers = true)]
    layers: Vec<i64>,
    /// The position in the source prompt, negative from its end.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    position: i64,
    /// The layer whose output is replaced; the layer read by default.
    #[arg(long, allow_negative_numbers = true)]
    target_layer: Option<i64>,
    /// The position in the target prompt, negative from its end.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    target_position: i64,
    /// How many tokens to continue with.
    #[arg(long, default_value_t = 8)]
    tokens: usize,
    #[command(flatten)]
    shown: Shown,
}

impl PatchscopeCommand {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let options = json!({
            "source": self.source,
            "target": self.target,
            "layers": (!self.layers.is_empty()).then_some(&self.layers),
            "position": self.position,
            "target_layer": self.target_layer,
            "target_position": self.target_position,
            "tokens": self.tokens,
        });
        self.shown.run(&self.model.load()?, "patchscope", options).map(drop)
    }
}
