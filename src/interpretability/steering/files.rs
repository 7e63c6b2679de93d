//! Steering vectors on disk.
//!
//! safetensors, our own: a tensor `layers.N.SITE` a layer, float32 `[width]`, and in `__metadata__` the texts `format`
//! ("mlxterp.steering_vectors"), `method`, `site`, `position`, `model`, `model_type`, and as JSON by layer `state_norms` and
//! `separations`.
//!
//! GGUF, as repeng writes it and llama.cpp reads it (`--control-vector`): `general.architecture` is "controlvector",
//! `controlvector.model_hint` the model's type, `controlvector.layer_count` the number of vectors, and `direction.N`, float32
//! `[width]`, is added to the output of layer `N`, counted from 0. llama.cpp has none for layer 0.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::vectors::{Direction, SteeringVectors};
use crate::core::tensor::Array;
use crate::core::weights::ggml::GgmlType;
use crate::core::weights::gguf::GgufFile;
use crate::core::weights::{Checkpoint, RawDtype, store};
use crate::error::{Result, bail, err};

const FORMAT: &str = "mlxterp.steering_vectors";
const ARCHITECTURE: &str = "controlvector";

impl SteeringVectors {
    /// Writes them: `.gguf` as a control vector of llama.cpp, `.safetensors` with all that is known of them.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => self.save_safetensors(path),
            Some("gguf") => self.save_gguf(path),
            _ => bail!(InvalidArgument, "{}: vectors are written as .safetensors or .gguf", path.display()),
        }
    }

    /// Reads what [`SteeringVectors::save`], repeng or llama.cpp wrote. Errors: another kind of file, vectors of several
    /// widths or with numbers that are not finite; whether they suit a model is [`SteeringVectors::check`]'s to say.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => Self::load_safetensors(path),
            Some("gguf") => Self::load_gguf(path),
            _ => bail!(InvalidArgument, "{}: vectors are read from .safetensors or .gguf", path.display()),
        }?;
        read.sound().map_err(|e| e.context(path.display()))?;
        Ok(read)
    }

    /// Refuses vectors that are none.
    pub(crate) fn sound(&self) -> Result<()> {
        if self.layers.is_empty() {
            bail!(Corrupt, "there are no vectors in it");
        }
        let width = self.width();
        for (layer, d) in &self.layers {
            if d.vector.len() != width || width == 0 {
                bail!(Corrupt, "the vector of layer {layer} has width {}, others have {width}", d.vector.len());
            }
            if d.vector.iter().any(|v| !v.is_finite()) {
                bail!(Corrupt, "the vector of layer {layer} holds infinities or NaN");
            }
        }
        Ok(())
    }

    fn save_safetensors(&self, path: &Path) -> Result<()> {
        let by_layer = |known: &dyn Fn(&Direction) -> Option<f32>| {
            let all = self.layers.iter().filter_map(|(layer, d)| Some((layer.to_string(), json!(known(d)?))));
            Value::Object(all.collect()).to_string()
        };
        let texts = [
            ("format", FORMAT.to_owned()),
            ("method", self.method.clone()),
            ("site", self.site.clone()),
            ("position", self.position.clone()),
            ("model", self.model.clone()),
            ("model_type", self.model_type.clone()),
            ("state_norms", by_layer(&|d| d.state_norm)),
            ("separations", by_layer(&|d| d.separation)),
        ];
        let metadata = texts.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let one = |(layer, d): (&usize, &Direction)| {
            Ok((format!("layers.{layer}.{}", self.site), Array::from_slice(&d.vector, &[d.vector.len()])?))
        };
        store::save(path, &self.layers.iter().map(one).collect::<Result<Vec<_>>>()?, &metadata)
    }

    fn load_safetensors(path: &Path) -> Result<Self> {
        let file = store::load(path)?;
        let text = |key: &str| file.metadata.get(key).cloned().unwrap_or_default();
        if text("format") != FORMAT {
            bail!(
                Unsupported,
                "{}: no file of steering vectors: its metadata have no format \"{FORMAT}\"",
                path.display()
            );
        }
        let by_layer = |key: &str| -> Result<BTreeMap<String, f32>> {
            let all = text(key);
            let all = if all.is_empty() { "{}" } else { &all };
            serde_json::from_str(all).map_err(|e| err!(Corrupt, "{}: metadata `{key}`: {e}", path.display()))
        };
        let (norms, separations) = (by_layer("state_norms")?, by_layer("separations")?);
        let site = text("site");
        let mut layers = BTreeMap::new();
        for (name, array) in &file.arrays {
            let number = name.strip_prefix("layers.").and_then(|rest| rest.strip_suffix(&format!(".{site}")));
            let Some(layer) = number.and_then(|n| n.parse::<usize>().ok()) else {
                bail!(Corrupt, "{}: the tensor '{name}' is not called layers.N.{site}", path.display());
            };
            if array.ndim() != 1 {
                bail!(Corrupt, "{}: '{name}' has shape {:?}: a vector has one axis", path.display(), array.shape());
            }
            let known = |all: &BTreeMap<String, f32>| all.get(&layer.to_string()).copied();
            let (state_norm, separation) = (known(&norms), known(&separations));
            layers.insert(layer, Direction { vector: array.to_vec()?, state_norm, separation });
        }
        Ok(Self {
            method: text("method"),
            site,
            position: text("position"),
            model: text("model"),
            model_type: text("model_type"),
            layers,
        })
    }

    fn save_gguf(&self, path: &Path) -> Result<()> {
        if self.site != "output" {
            bail!(
                Unsupported,
                "{}: a control vector is added to a layer's output, these belong to '{}': write them as .safetensors",
                path.display(),
                self.site
            );
        }
        if self.layers.contains_key(&0) {
            bail!(
                Unsupported,
                "{}: llama.cpp has no control vector for layer 0: leave that layer out, or write .safetensors",
                path.display()
            );
        }
        let mut file = GgufFile::new(ARCHITECTURE)
            .text("controlvector.model_hint", &self.model_type)
            .number("controlvector.layer_count", self.layers.len() as u32);
        for (layer, d) in &self.layers {
            file = file.vector(&format!("direction.{layer}"), &d.vector);
        }
        file.write(path)
    }

    fn load_gguf(path: &Path) -> Result<Self> {
        let file = Checkpoint::open_gguf(path)?;
        let text = |key: &str| file.metadata().map(|m| m.opt_str(key)).transpose().map(Option::flatten);
        let architecture = text("general.architecture")?.unwrap_or_default();
        if architecture != ARCHITECTURE {
            bail!(
                Unsupported,
                "{}: its architecture is \"{architecture}\", that of a control vector is \"{ARCHITECTURE}\"",
                path.display()
            );
        }
        let mut layers = BTreeMap::new();
        for (name, raw) in file.tensors() {
            let number = name.strip_prefix("direction.").and_then(|n| n.parse::<usize>().ok());
            let Some(layer) = number.filter(|n| *n > 0) else {
                bail!(Corrupt, "{}: the tensor '{name}' is not called direction.N with N from 1", path.display());
            };
            if raw.dtype() != RawDtype::Ggml(GgmlType::F32) || raw.shape().len() != 1 {
                bail!(
                    Unsupported,
                    "{}: '{name}' is {} of shape {:?}: a direction is float32 with one axis",
                    path.display(),
                    raw.dtype(),
                    raw.shape()
                );
            }
            let vector = raw.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            layers.insert(layer, Direction { vector, state_norm: None, separation: None });
        }
        let hint = text("controlvector.model_hint")?.unwrap_or_default().to_owned();
        Ok(Self {
            method: String::new(),
            site: "output".to_owned(),
            position: String::new(),
            model: hint.clone(),
            model_type: hint,
            layers,
        })
    }
}
