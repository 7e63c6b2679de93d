//! `mlxterp circuit`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mlxterp::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::finding::Shown;
use crate::gradients::Measured;
use crate::load::Source;

/// The edges between heads, MLPs, embedding and logits that an answer needs, and how faithful they are.
#[derive(Args)]
pub struct Circuit {
    #[command(flatten)]
    model: Source,
    /// The prompt.
    clean: String,
    /// A prompt of as many tokens with another answer: what cut edges carry.
    corrupt: String,
    /// How the circuit is found.
    #[arg(long, value_enum, default_value = "eap-ig")]
    method: Method,
    /// How many edges to keep.
    #[arg(long, default_value_t = 50)]
    edges: usize,
    /// What an edge may cost to be cut, in nats: for acdc.
    #[arg(long, default_value_t = 0.01)]
    threshold: f32,
    /// What cut edges carry: resample (what they carry in the corrupt run), mean, or zero.
    #[arg(long, default_value = "resample")]
    ablation: String,
    /// A circuit written by --write instead of a search.
    #[arg(long, value_name = "FILE")]
    read: Option<PathBuf>,
    /// Write the circuit as JSON.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Write the circuit for Graphviz.
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    #[command(flatten)]
    metric: Measured,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    /// Edge attribution patching.
    Eap,
    /// The same with integrated gradients.
    EapIg,
    /// Every edge patched by itself.
    Exact,
    /// Automated circuit discovery: cut whatever costs less than --threshold.
    Acdc,
}

impl Circuit {
    /// Finds or reads a circuit, measures and shows it.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        let pair = json!({ "clean": self.clean, "corrupt": self.corrupt });
        let with = |more: Value| {
            let mut options = pair.clone();
            if let (Some(all), Value::Object(more)) = (options.as_object_mut(), more) {
                all.extend(more);
            }
            options
        };
        let metric = self.metric.option();
        let search = |method: &str| {
            let options = with(json!({ "metric": metric, "method": method, "edges": self.edges }));
            self.shown.find(&model, "edge_attribution", options)
        };
        let found = match (&self.read, self.method) {
            (Some(file), _) => read(file)?,
            (None, Method::Acdc) => {
                let options = with(json!({ "threshold": self.threshold, "ablation": self.ablation }));
                self.shown.find(&model, "acdc", options)?.json()?["circuit"].take()
            }
            (None, Method::Eap) => search("eap")?.json()?["circuit"].take(),
            (None, Method::EapIg) => search("eap_ig")?.json()?["circuit"].take(),
            (None, Method::Exact) => search("exact")?.json()?["circuit"].take(),
        };
        let options = with(json!({ "circuit": found, "metric": metric, "ablation": self.ablation }));
        let found = self.shown.run(&model, "circuit", options)?.json()?;
        if let Some(file) = &self.write {
            write(file, &found["circuit"].to_string())?;
        }
        match &self.dot {
            Some(file) => write(file, found["dot"].as_str().unwrap_or_default()),
            None => Ok(()),
        }
    }
}

fn failed(file: &Path, e: impl std::fmt::Display, kind: ErrorKind) -> Error {
    Error::new(kind, format!("{}: {e}", file.display()))
}

fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).map_err(|e| failed(file, e, ErrorKind::Io))?;
    serde_json::from_str(&text).map_err(|e| failed(file, e, ErrorKind::InvalidArgument))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|e| failed(file, e, ErrorKind::Io))
}
