//! `mlxterp probe`.

use std::path::PathBuf;

use clap::Args;
use mlxterp::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::finding::Shown;
use crate::load::Source;
use crate::steer::lines;

/// What a straight line can read off the states of texts, by layer and position.
#[derive(Args)]
pub struct Probe {
    #[command(flatten)]
    model: Source,
    /// A text a line, with its label in front: `1<TAB>Paris is in France.` Labels are 0 and 1; for --kind linear any numbers.
    data: PathBuf,
    /// logistic, linear or mass_mean.
    #[arg(long, default_value = "logistic")]
    kind: String,
    /// The value within each layer.
    #[arg(long, default_value = "output")]
    site: String,
    /// Which layers, such as 10,12,-1; all without it.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    layers: Option<Vec<i64>>,
    /// Positions of every text: last, mean or numbers.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "last")]
    positions: Vec<String>,
    /// Penalty on the squared weights.
    #[arg(long)]
    l2: Option<f64>,
    /// Share of the texts that probes are judged by.
    #[arg(long)]
    validation: Option<f64>,
    /// Folds of a cross-validation.
    #[arg(long)]
    folds: Option<usize>,
    /// Random labelings of a control task.
    #[arg(long)]
    control: Option<usize>,
    /// What texts are drawn into parts by.
    #[arg(long)]
    seed: Option<u64>,
    /// Write the probes to a .safetensors file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
}

impl Probe {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let (mut texts, mut labels) = (Vec::new(), Vec::new());
        for (i, line) in lines(&self.data)?.iter().enumerate() {
            let parts = line.split_once('\t').and_then(|(label, text)| Some((label.trim().parse::<f64>().ok()?, text)));
            let Some((label, text)) = parts else {
                let text = format!("{}: text {i} has no label in front of a tab: {line:?}", self.data.display());
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            };
            labels.push(label);
            texts.push(text.to_owned());
        }
        let position = |p: &String| p.parse::<i64>().map_or_else(|_| json!(p), |i| json!(i));
        let options = json!({
            "texts": texts, "labels": labels, "kind": self.kind, "site": self.site, "layers": self.layers,
            "positions": self.positions.iter().map(position).collect::<Vec<Value>>(), "l2": self.l2,
            "validation": self.validation, "folds": self.folds, "control": self.control, "seed": self.seed,
            "save": self.save,
        });
        self.shown.run(&self.model.load()?, "probe", options).map(drop)
    }
}
