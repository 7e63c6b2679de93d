//! Tensor names: ggml's and the model's.

use super::architectures::{Architecture, Order};
use crate::error::{Result, bail, err};

/// Where a tensor belongs.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// Under this name, its rows in this order in the file.
    At(String, Order),
    /// In no module: its content is in the configuration, or follows from it.
    Nowhere,
}

/// Finds the place of the tensor that the file calls `source`.
pub(super) fn place(architecture: &Architecture, source: &str, layers: usize) -> Result<Place> {
    let unknown = || err!(Unsupported, "tensor `{source}` has no place in a {} model as known here", architecture.name);
    let (layer, rest) = match block(source) {
        Some((layer, rest)) => (Some(layer), rest),
        None => (None, source),
    };
    if let Some(layer) = layer.filter(|l| *l >= layers) {
        bail!(Corrupt, "tensor `{source}` belongs to block {layer}, but there are {layers} (0 to {})", layers - 1);
    }
    let (module, leaf) = rest.rsplit_once('.').ok_or_else(unknown)?;
    if architecture.nowhere.contains(&module) {
        return Ok(Place::Nowhere);
    }
    let biased = architecture.norm_biases || !is_norm(source);
    if leaf != "weight" && !(leaf == "bias" && biased) {
        return Err(unknown());
    }
    let found = match layer {
        None => architecture.outside.iter().find(|(name, _)| *name == module).map(|(_, path)| (*path, Order::Same)),
        Some(_) => architecture
            .inside
            .iter()
            .copied()
            .flatten()
            .find(|(name, ..)| *name == module)
            .map(|(_, path, order)| (*path, *order)),
    };
    let (path, order) = found.ok_or_else(unknown)?;
    Ok(match layer {
        None => Place::At(format!("{path}.{leaf}"), order),
        Some(layer) => Place::At(format!("{}.{layer}.{path}.{leaf}", architecture.layers), order),
    })
}

/// Whether a tensor is a norm's: ggml's names of modules say so.
pub(super) fn is_norm(source: &str) -> bool {
    source.rsplit_once('.').is_some_and(|(module, _)| module.ends_with("norm"))
}

/// The number of a block and what follows it: `blk.3.attn_q.weight` is (3, `attn_q.weight`).
pub(super) fn block(source: &str) -> Option<(usize, &str)> {
    let (number, rest) = source.strip_prefix("blk.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}
