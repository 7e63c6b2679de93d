//! A checkpoint: every tensor of a model by name, whatever files they are in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::directory;
use super::gguf::Gguf;
use super::mapping::Mapping;
use super::metadata::Metadata;
use super::raw::{RawDtype, RawTensor};
use crate::error::{Result, bail};

/// Named tensors over memory maps.
///
/// The files must not be changed while a checkpoint or a tensor of it is alive: they are mapped, not copied.
#[derive(Debug)]
pub struct Checkpoint {
    tensors: BTreeMap<String, RawTensor>,
    metadata: Option<Metadata>,
}

impl Checkpoint {
    /// Opens a model directory: `model.safetensors`, or shards with or without an index.
    pub fn open_dir(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { tensors: directory::open(path.as_ref())?, metadata: None })
    }

    /// Opens one safetensors file, whatever its name.
    pub fn open_safetensors(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self { tensors: super::safetensors::open(path.as_ref())?, metadata: None })
    }

    /// Opens a GGUF file. Names are the file's own; [`super::gguf_model`] knows the model's.
    pub fn open_gguf(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = Arc::new(Mapping::open(path)?);
        let gguf = Gguf::parse(file.bytes(), &path.display().to_string())?;
        // The header is in memory now; a vocabulary makes it megabytes.
        file.release(0..gguf.data_start);
        if let Some(parts) = gguf.metadata.opt_usize("split.count")?.filter(|&n| n > 1) {
            bail!(
                Unsupported,
                "{}: this is one of {parts} parts of a model; merge them first (llama-gguf-split --merge)",
                path.display()
            );
        }
        let tensors = gguf.tensors.into_iter();
        let tensors = tensors.map(|t| (t.name, RawTensor::new(RawDtype::Ggml(t.kind), t.shape, t.range, file.clone())));
        Ok(Self { tensors: tensors.collect(), metadata: Some(gguf.metadata) })
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, RawTensor> {
        &self.tensors
    }

    /// The metadata of a GGUF file; none for a directory, whose facts are in its `config.json`.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }
}
