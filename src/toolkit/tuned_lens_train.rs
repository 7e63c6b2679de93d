//! `tuned_lens_train`: learns a tuned lens from texts.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::interpretability::lens::{TunedLensOptions, TunedTraining, train_tuned_lens_with};
use crate::utils::Finding;
use crate::visualization::lines;

pub(super) const TOOL: Tool = Tool {
    name: "tuned_lens_train",
    about: "learns an affine map for each layer with which the model's head reads its states (a tuned lens)",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inputs {
    texts: Prompts,
    /// Where to write the lens: a name that ends in .safetensors.
    #[serde(default)]
    save: Option<PathBuf>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (inputs, options): (Inputs, TunedLensOptions) = call.read_beside(&["texts", "save"])?;
    if !call.interventions.is_empty() {
        bail!(Unsupported, "'tuned_lens_train' learns the model as it is: it takes no interventions");
    }
    if let Some(path) = &inputs.save {
        // Told before the work, not after it.
        if path.extension().is_none_or(|e| e != "safetensors") {
            bail!(InvalidArgument, "save {}: give a name that ends in .safetensors", path.display());
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty() && !f.is_dir()) {
            bail!(NotFound, "save {}: there is no folder {}", path.display(), folder.display());
        }
    }
    let found = train_tuned_lens_with(model, inputs.texts, &options, &mut call.progress)?;
    if let Some(path) = &inputs.save {
        found.lens.save(path)?;
    }
    Ok(Box::new(Found(found)))
}

struct Found(TunedTraining);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(&self.0)
    }

    fn figure(&self) -> String {
        let remark = "Mean KL(final ‖ lens) on held-out tokens, in nats, layer by layer: how far what the lens reads is from \
                      what the model says in the end.";
        lines(&self.0.kl, "Tuned lens against logit lens", remark)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let (weights, biases) = self.0.lens.to_arrays()?;
        let losses = Array::from_slice(&self.0.losses, &[self.0.losses.len()])?;
        let kl = self.0.kl.to_array()?;
        let named = [("weights", weights), ("biases", biases), ("losses", losses), ("kl", kl)];
        Ok(named.into_iter().map(|(name, array)| (name.to_owned(), array)).collect())
    }
}
