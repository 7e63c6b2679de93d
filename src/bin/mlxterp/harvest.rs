//! `mlxterp harvest`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use mlxterp::Result;
use mlxterp::toolkit::{self, Call};
use serde_json::{Map, Value, json};

use crate::finding::{Shown, interventions};
use crate::load::Source;

/// Write the activations of sites over a data set to a folder. Run it again to go on after an end at any moment.
#[derive(Args)]
pub struct Harvest {
    #[command(flatten)]
    model: Source,
    /// The data set: .txt, a text a line, or .jsonl.
    data: PathBuf,
    /// The folder; it is made.
    out: PathBuf,
    /// Site or pattern; may be given several times.
    #[arg(long = "site", value_name = "SITE", required = true)]
    sites: Vec<String>,
    /// Where a line of JSON has its text.
    #[arg(long, default_value = "text")]
    key: String,
    /// In which dtype vectors are kept: float32, bfloat16 or float16.
    #[arg(long, value_name = "DTYPE")]
    keep: Option<String>,
    /// How many tokens run at once at most.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Run only the first tokens of longer documents, instead of all in pieces.
    #[arg(long)]
    truncate: bool,
    /// Keep the vectors at special tokens too.
    #[arg(long)]
    keep_special: bool,
    /// Rows that run together.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Batches sorted by length together.
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Vectors of a shard.
    #[arg(long, value_name = "N")]
    shard_vectors: Option<usize>,
    #[command(flatten)]
    shown: Shown,
}

impl Harvest {
    /// Does it under a counter of documents, and shows what is there.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        let options = json!({
            "data": self.data, "out": self.out, "key": self.key, "sites": self.sites, "dtype": self.keep,
            "max_tokens": self.max_tokens, "long": self.truncate.then_some("truncate"),
            "skip_special": self.keep_special.then_some(false), "batch_size": self.batch_size, "window": self.window,
            "shard_vectors": self.shard_vectors,
        });
        let Value::Object(options) = options else { return Ok(()) };
        let given: Map<_, _> = options.into_iter().filter(|(_, v)| !v.is_null()).collect();
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut tell = |done: u64, _: u64| {
            bar.set_message(format!("{done} documents"));
            true
        };
        let mut call = Call::new(given.into());
        call.interventions = interventions(self.shown.set())?;
        call.progress = Some(&mut tell);
        let found = toolkit::run(&model, "harvest", call);
        bar.finish_and_clear();
        self.shown.show(found?.as_ref())
    }
}
