//! The user's own models: a description as text, tensors as arrays that are already in memory.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::Model;
use super::checkpoint::Pieces;
use super::load::{LoadOptions, OnProgress, Parts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};

impl Model {
    /// A model from a description (its text, or the name of a shipped one), a config and named arrays.
    ///
    /// The arrays are used as they are, buffers and dtypes included; [`LoadOptions::dtype`] asks for another one.
    pub fn from_weights(
        description: &str,
        config: Value,
        weights: BTreeMap<String, Array>,
        options: &LoadOptions,
    ) -> Result<Self> {
        Self::own(description, config, Pieces::of_arrays(weights), options, None)
    }

    /// The same with weights from files: a `.safetensors` file, several, or a directory of them.
    pub fn from_files<P: AsRef<Path>>(
        description: &str,
        config: Value,
        files: &[P],
        options: &LoadOptions,
        progress: Option<OnProgress<'_>>,
    ) -> Result<Self> {
        Self::own(description, config, Pieces::of_files(files)?, options, progress)
    }

    fn own(
        description: &str,
        config: Value,
        pieces: Pieces,
        options: &LoadOptions,
        progress: Option<OnProgress<'_>>,
    ) -> Result<Self> {
        if description.trim().is_empty() {
            bail!(InvalidArgument, "the description is empty: give its text, or the name of a shipped one");
        }
        if !config.is_object() {
            bail!(Config, "the config must be an object ({{\"n_layers\": 2, …}}), not {config}");
        }
        let mut options = options.clone();
        options.description = Some(description.to_owned());
        let parts = Parts { pieces, config, tokenizer: None, name: None };
        Self::assemble(parts, &options, progress)
    }
}
