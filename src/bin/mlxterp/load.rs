//! Which model, and how far its loading has come.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mlxterp::Result;
use mlxterp::core::model::{LoadOptions, LoadProgress, Model};
use mlxterp::core::tensor::Dtype;

/// A model and how to load it.
#[derive(Args)]
pub struct Source {
    /// A model directory, a .gguf file or a Hugging Face id.
    pub model: String,
    /// Compute in this dtype.
    #[arg(long)]
    dtype: Option<String>,
    /// Keep quantised weights packed.
    #[arg(long)]
    packed: bool,
    /// A shipped architecture description by name, or the path of a new one.
    #[arg(long)]
    arch: Option<String>,
    /// Branch, tag or commit on the hub.
    #[arg(long)]
    revision: Option<String>,
    /// Never touch the network.
    #[arg(long)]
    offline: bool,
}

impl Source {
    /// Loads it, with a progress bar where there is a terminal.
    pub fn load(&self) -> Result<Model> {
        let mut options = LoadOptions {
            dtype: self.dtype.as_deref().map(Dtype::from_name).transpose()?,
            keep_quantised: self.packed.then_some(true),
            description: self.arch.as_deref().map(read_description).transpose()?,
            ..LoadOptions::default()
        };
        options.hub.revision.clone_from(&self.revision);
        options.hub.offline = self.offline.then_some(true);
        with_bar(&self.model, &options)
    }
}

/// A path is read; anything else is a name.
fn read_description(name: &str) -> Result<String> {
    if !std::path::Path::new(name).is_file() {
        return Ok(name.to_owned());
    }
    std::fs::read_to_string(name).map_err(|e| mlxterp::Error::new(mlxterp::ErrorKind::Io, format!("{name}: {e}")))
}

/// Loads under a progress bar.
pub fn with_bar(source: &str, options: &LoadOptions) -> Result<Model> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:9} {bar:40} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut tell = |p: LoadProgress| {
        bar.set_message(p.stage);
        bar.set_length(p.total);
        bar.set_position(p.done);
        true
    };
    let model = Model::load_with(source, options, Some(&mut tell));
    bar.finish_and_clear();
    model
}
