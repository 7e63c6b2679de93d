//! `mlxterp patch`: activation patching, causal tracing, path patching.

use clap::{Args, ValueEnum};
use mlxterp::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::finding::Shown;
use crate::gradients::Measured;
use crate::load::Source;

/// What values of one run do in another: a grid of patches (with --corrupt), the paths from heads (with --to), or a causal
/// trace (with --subject).
#[derive(Args)]
pub struct Patch {
    #[command(flatten)]
    model: Source,
    /// The clean prompt.
    prompt: String,
    /// A prompt of as many tokens with another answer.
    #[arg(long, required_unless_present = "subject", conflicts_with = "subject")]
    corrupt: Option<String>,
    /// Words of the prompt whose embeddings get noise: causal tracing of the answer's probability.
    #[arg(long)]
    subject: Option<String>,
    /// What is patched: resid_pre, resid_mid, resid_post, attn, mlp, q, k, v, z, pattern or neuron.
    #[arg(long)]
    component: Option<String>,
    /// Axes of the grid: layer, and of position, head and neuron those wanted.
    #[arg(long, value_delimiter = ',', requires = "corrupt")]
    axes: Option<Vec<String>>,
    /// Corrupted values into the clean run, rather than clean ones into the corrupted run.
    #[arg(long, requires = "corrupt")]
    noising: bool,
    /// Layers; negative from the last.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    layers: Option<Vec<i64>>,
    /// Heads; negative from the last.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, requires = "corrupt")]
    heads: Option<Vec<i64>>,
    /// Neurons; negative from the last.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, requires = "corrupt")]
    neurons: Option<Vec<i64>>,
    /// Positions; negative from the prompt's end.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    positions: Option<Vec<i64>>,
    /// Paths from every head to these: logits, or q.LAYER.HEAD, k.LAYER.HEAD, v.LAYER.HEAD, mlp.LAYER.
    #[arg(long, value_delimiter = ',', requires = "corrupt", conflicts_with_all = ["component", "axes", "noising"])]
    to: Option<Vec<String>>,
    /// What sends.
    #[arg(long, requires = "to")]
    senders: Option<Senders>,
    /// Let MLPs between sender and receiver compute anew.
    #[arg(long, requires = "to")]
    recompute_mlps: bool,
    /// Layers that a causal trace restores together.
    #[arg(long, requires = "subject")]
    window: Option<usize>,
    /// How many noises a causal trace tries.
    #[arg(long, requires = "subject")]
    samples: Option<usize>,
    /// Seed of the noise.
    #[arg(long, requires = "subject")]
    seed: Option<u64>,
    #[command(flatten)]
    metric: Measured,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Clone, Copy, ValueEnum)]
enum Senders {
    Heads,
    Mlp,
}

impl Patch {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let (tool, options) = match (&self.subject, &self.to) {
            (Some(subject), _) => ("causal_tracing", self.causal(subject)?),
            (None, Some(to)) => ("path_patching", self.paths(to)?),
            (None, None) => ("activation_patching", self.grid()),
        };
        self.shown.run(&self.model.load()?, tool, options).map(drop)
    }

    fn grid(&self) -> Value {
        json!({
            "clean": self.prompt, "corrupt": self.corrupt, "metric": self.metric.option(), "component": self.component,
            "axes": self.axes, "direction": self.noising.then_some("noising"), "layers": self.layers,
            "heads": self.heads, "neurons": self.neurons, "positions": self.positions,
        })
    }

    fn causal(&self, subject: &str) -> Result<Value> {
        let Some(answer) = self.metric.answer_alone() else {
            return Err(wrong("a causal trace measures the answer's probability: leave --wrong out"));
        };
        Ok(json!({
            "prompt": self.prompt, "subject": subject, "answer": answer, "component": self.component,
            "layers": self.layers, "positions": self.positions, "window": self.window, "samples": self.samples,
            "seed": self.seed,
        }))
    }

    fn paths(&self, to: &[String]) -> Result<Value> {
        let senders = self.senders.map(|s| match s {
            Senders::Heads => "heads",
            Senders::Mlp => "mlp",
        });
        if self.neurons.is_some() {
            return Err(wrong("neurons send no paths of their own: leave --neurons out"));
        }
        Ok(json!({
            "clean": self.prompt, "corrupt": self.corrupt, "metric": self.metric.option(), "layers": self.layers,
            "heads": self.heads, "positions": self.positions, "senders": senders,
            "receivers": to.iter().map(|r| receiver(r)).collect::<Result<Vec<_>>>()?,
            "mlps": self.recompute_mlps.then_some("recomputed"),
        }))
    }
}

/// `q.9.6` as options say it.
fn receiver(text: &str) -> Result<Value> {
    let mut parts = text.split('.');
    let input = parts.next().unwrap_or_default();
    let mut number = || {
        let one = |p: &str| p.parse::<i64>().map_err(|_| wrong(&format!("--to {text}: '{p}' is no number")));
        parts.next().map(one).transpose()
    };
    let (layer, head) = (number()?, number()?);
    match number()? {
        None => Ok(json!({ "input": input, "layer": layer, "head": head })),
        Some(_) => {
            Err(wrong(&format!("--to {text}: expected logits, q.LAYER.HEAD, k.LAYER.HEAD, v.LAYER.HEAD or mlp.LAYER")))
        }
    }
}

fn wrong(text: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}
