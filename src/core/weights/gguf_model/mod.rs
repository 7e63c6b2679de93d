//! A GGUF file as the model it came from: its `config.json`, the names its modules have, its rows in their order.
//!
//! A GGUF file says all this in ggml's words. Here it is said in those of a model directory, so that the rest of the
//! library need not know which of the two it was given.

mod architectures;
mod config;
mod names;
mod permutation;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

pub use permutation::{apart_permutation, permute_rows, row_permutation};

use self::architectures::Order;
use super::checkpoint::Checkpoint;
use super::metadata::Metadata;
use super::raw::RawTensor;
use crate::error::{Result, bail, err};

/// The architectures that are read, by llama.cpp's names.
pub fn architectures() -> Vec<&'static str> {
    architectures::ALL.iter().map(|a| a.name).collect()
}

/// What a GGUF file holds, in the words of a model directory.
#[derive(Debug)]
pub struct GgufModel {
    /// What would stand in `config.json`.
    ///
    /// `rope_scaling` of type `factors` is this library's own: a list of numbers by which the wavelengths of the
    /// rotary embedding are multiplied, one for each pair of dimensions. Such files state the result of a scaling
    /// (that of Llama 3.1 for one) and not its parameters.
    pub config: Value,
    /// The tensors by the names that the model's modules give them.
    pub tensors: BTreeMap<String, PlacedTensor>,
    /// Whether its activations leave the range of half precision, so that bfloat16 is the better choice.
    pub wide: bool,
}

/// A tensor of a GGUF file in its place in the model.
#[derive(Clone, Debug)]
pub struct PlacedTensor {
    /// Its name in the file, for messages.
    pub source: String,
    /// The tensor as it lies in the file.
    pub raw: RawTensor,
    /// Where each row is to be taken from, if not from its own place.
    pub rows: Option<Vec<usize>>,
    /// What is to be added to its numbers: the file may have the weights of norms as they are multiplied with, and the
    /// model have them less one.
    pub shift: f32,
}

impl PlacedTensor {
    /// The bytes with the rows in the model's order; a copy only if that differs from the file's.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.rows {
            None => Cow::Borrowed(self.raw.bytes()),
            Some(rows) => Cow::Owned(permute_rows(self.raw.bytes(), rows)),
        }
    }
}

impl GgufModel {
    /// Translates an opened GGUF file.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self> {
        let Some(metadata) = checkpoint.metadata() else {
            bail!(InvalidArgument, "this checkpoint is a directory and has its own config.json")
        };
        let tensors = checkpoint.tensors();
        translate(metadata, tensors).map_err(|e| match tensors.values().next() {
            Some(t) if !e.message().starts_with(&*t.path().to_string_lossy()) => e.context(t.path().display()),
            _ => e,
        })
    }
}

fn translate(metadata: &Metadata, tensors: &BTreeMap<String, RawTensor>) -> Result<GgufModel> {
    let name = metadata.str("general.architecture")?;
    let Some(architecture) = architectures::named(name) else {
        bail!(
            Unsupported,
            "GGUF files of architecture `{name}` are not read ({} are); a safetensors copy of the model may be",
            architectures().join(", ")
        )
    };
    let facts = config::Facts::read(architecture, metadata, tensors)?;
    let mut placed = BTreeMap::new();
    for (source, raw) in tensors {
        let names::Place::At(name, order) = names::place(architecture, source, facts.layers)? else { continue };
        let rows = match order {
            Order::Same => None,
            Order::QueryHalves => Some(rows(raw, facts.query_heads, row_permutation, source)?),
            Order::KeyHalves => Some(rows(raw, facts.key_heads, row_permutation, source)?),
            Order::Apart => Some(rows(raw, facts.query_heads, apart_permutation, source)?),
        };
        let shift = if names::is_norm(source) { architecture.norm_shift } else { 0.0 };
        placed.insert(name, PlacedTensor { source: source.clone(), raw: raw.clone(), rows, shift });
    }
    Ok(GgufModel { config: facts.config, tensors: placed, wide: architecture.wide })
}

fn rows(
    raw: &RawTensor,
    heads: usize,
    permutation: fn(usize, usize) -> Option<Vec<usize>>,
    source: &str,
) -> Result<Vec<usize>> {
    let n = raw.shape().first().copied().unwrap_or(0);
    permutation(n, heads).ok_or_else(|| {
        err!(Corrupt, "tensor `{source}` has {n} rows, which {heads} heads cannot share as their order needs")
    })
}

#[cfg(test)]
mod tests;
