//! Lenses as files: safetensors written and read; the npz and json of the Python mlxterp read.

use std::collections::BTreeMap;
use std::path::Path;

use super::{TunedLens, npz};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::weights::store;
use crate::error::{ErrorKind, Result, bail, err};

const FORMAT: &str = "mlxterp tuned lens";

impl TunedLens {
    /// Writes a safetensors file: `translators.I.weight` `[feature, feature]` and `translators.I.bias` `[feature]`, float32, for
    /// every layer I from 0; a state `h` of that layer's output becomes `weight h + bias`. Its metadata say `format`, `version`,
    /// `layers`, `width` and the `model`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = Vec::new();
        for (i, (weight, bias)) in self.weights.iter().zip(&self.biases).enumerate() {
            arrays.push((format!("translators.{i}.weight"), weight.clone()));
            arrays.push((format!("translators.{i}.bias"), bias.clone()));
        }
        let mut about = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("version".to_owned(), "1".to_owned()),
            ("layers".to_owned(), self.layers().to_string()),
            ("width".to_owned(), self.width().to_string()),
        ]);
        about.extend(self.model.iter().map(|m| ("model".to_owned(), m.clone())));
        store::save(path, &arrays, &about)
    }

    /// Reads what [`TunedLens::save`] wrote (a name that ends in `.safetensors`), or what the Python mlxterp's
    /// `TunedLens.save` did: NAME.npz with NAME.json beside it, given as any of NAME, NAME.npz and NAME.json.
    pub fn load(path: &Path) -> Result<Self> {
        let lens = match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => read(path),
            Some("npz" | "json") => npz::read(path),
            _ if path.with_extension("npz").exists() => npz::read(path),
            _ => Err(err!(NotFound, "a tuned lens is a .safetensors file, or a .npz with its .json beside it")),
        };
        lens.map_err(|e| match e.message().contains(&path.display().to_string()) {
            true => e,
            false => e.context(path.display()),
        })
    }
}

fn read(path: &Path) -> Result<TunedLens> {
    let mut file = store::load(path)?;
    let mut take = |name: &str| file.arrays.remove(name);
    let mut pairs = Vec::new();
    while let Some(weight) = take(&format!("translators.{}.weight", pairs.len())) {
        let bias = take(&format!("translators.{}.bias", pairs.len()));
        pairs.push((weight, bias.ok_or_else(|| err!(Corrupt, "translators.{}.bias is missing", pairs.len()))?));
    }
    if pairs.is_empty() {
        bail!(Corrupt, "there is no 'translators.0.weight': this is not a tuned lens");
    }
    if let Some(name) = file.arrays.keys().next() {
        bail!(Corrupt, "'{name}' is no part of a tuned lens of {} layers", pairs.len());
    }
    of_pairs(pairs, file.metadata.remove("model"))
}

/// A lens of maps for layers 0, 1, 2, …, all of one width.
pub(super) fn of_pairs(pairs: Vec<(Array, Array)>, model: Option<String>) -> Result<TunedLens> {
    let width = pairs.first().map_or(0, |(_, bias)| bias.size());
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for (i, (weight, bias)) in pairs.into_iter().enumerate() {
        if bias.dims() != [width] || weight.dims() != [width, width] {
            bail!(
                Corrupt,
                "layer {i}: weight of shape {:?} and bias of shape {:?}; a lens of width {width} has [{width}, {width}] and \
                 [{width}]",
                weight.shape(),
                bias.shape()
            );
        }
        weights.push(number(weight, i)?);
        biases.push(number(bias, i)?);
    }
    Ok(TunedLens { weights, biases, model })
}

/// Float32, and nothing that is not a number.
fn number(a: Array, layer: usize) -> Result<Array> {
    let a = tensor::cast(&a, Dtype::Float32)?;
    if !tensor::sum_all(&tensor::abs(&a)?)?.item()?.is_finite() {
        return Err(crate::Error::new(
            ErrorKind::Corrupt,
            format!("layer {layer}: its map has values that are no numbers"),
        ));
    }
    Ok(a)
}
