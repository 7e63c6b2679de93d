//! `mlxterp heads`.

use clap::Args;
use mlxterp::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::finding::Shown;
use crate::load::Source;

/// What attention heads look at: scores on a prompt, or without one on repeated random tokens; or one of the others.
#[derive(Args)]
pub struct Heads {
    #[command(flatten)]
    model: Source,
    /// A prompt; without one, repeated random tokens.
    prompt: Option<String>,
    /// Where each head looks in the prompt.
    #[arg(long, requires = "prompt", conflicts_with_all = ["composition", "copying", "circuit"])]
    patterns: bool,
    /// How much of what a head writes later heads read, as weights say.
    #[arg(long, conflicts_with_all = ["prompt", "copying", "circuit"])]
    composition: bool,
    /// Whether heads make likelier what they look at.
    #[arg(long, conflicts_with_all = ["prompt", "circuit"])]
    copying: bool,
    /// The QK and OV circuits of a head.
    #[arg(long, value_name = "LAYER.HEAD", conflicts_with = "prompt")]
    circuit: Option<String>,
    /// Of these layers only; with --patterns, --composition and --copying.
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<usize>,
    /// Rows of random tokens.
    #[arg(long)]
    rows: Option<usize>,
    /// Random tokens in a row before they are repeated.
    #[arg(long)]
    length: Option<usize>,
    /// How often they stand there.
    #[arg(long)]
    times: Option<usize>,
    /// Of the random choice.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    shown: Shown,
}

impl Heads {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let (tool, options) = self.asked()?;
        self.shown.run(&self.model.load()?, tool, options).map(drop)
    }

    fn asked(&self) -> Result<(&'static str, Value)> {
        let drawn = self.rows.or(self.length).or(self.times).is_some() || self.seed.is_some();
        let weights = self.composition || self.copying || self.circuit.is_some();
        if drawn && (weights || self.prompt.is_some()) {
            return Err(wrong("--rows, --length, --times and --seed are of random tokens: there are none here"));
        }
        let by_layer = self.patterns || self.composition || self.copying;
        if !self.layers.is_empty() && !by_layer {
            return Err(wrong("--layer goes with --patterns, --composition and --copying"));
        }
        let layers = if self.layers.is_empty() { Value::Null } else { json!(self.layers) };
        if let Some(head) = &self.circuit {
            let place =
                head.split_once('.').and_then(|(l, h)| Some((l.parse::<usize>().ok()?, h.parse::<usize>().ok()?)));
            let Some((layer, head)) = place else {
                return Err(wrong(&format!("--circuit {head}: expected LAYER.HEAD, such as 1.6")));
            };
            return Ok(("head_circuit", json!({ "layer": layer, "head": head })));
        }
        Ok(match () {
            () if self.composition => ("composition_scores", json!({ "layers": layers })),
            () if self.copying => ("copying_scores", json!({ "layers": layers })),
            () if self.patterns => ("attention_patterns", json!({ "prompt": self.prompt, "layers": layers })),
            () => (
                "head_scores",
                json!({
                    "prompts": self.prompt, "rows": self.rows, "length": self.length, "times": self.times, "seed": self.seed
                }),
            ),
        })
    }
}

fn wrong(text: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, text.to_owned())
}
