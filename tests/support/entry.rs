//! One tested model of tests/fixtures/architectures: what it is, what it must compute, and its checkpoints on disk.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;

use half::bf16;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{Array, Dtype, Quantization, quantize};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::fill::Spec;
use super::{Expected, fixture};

/// How a checkpoint of an entry is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Float32,
    Bfloat16,
    /// Quantised in groups of 32, in the layout that mlx-lm writes.
    Packed,
    /// In float32, with config.json as transformers writes it.
    OtherConfig,
}

/// A value that the reference computed: where, its shape, and the row of `sites` that samples it.
pub struct Site {
    pub name: String,
    pub shape: Vec<usize>,
    row: usize,
}

pub struct Entry {
    pub name: String,
    pub about: Value,
    pub expected: Expected,
}

impl Entry {
    /// The entries named in the environment variable ARCH (separated by commas, `*` for anything at the end), else all.
    pub fn chosen() -> Vec<Entry> {
        let mut names: Vec<String> = std::fs::read_dir(fixture("architectures/entries"))
            .unwrap()
            .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_owned()))
            .collect();
        names.sort();
        if let Some(wanted) = asked_for() {
            let fits = |w: &str, n: &str| w.strip_suffix('*').map_or(w == n, |start| n.starts_with(start));
            names.retain(|n| wanted.split(',').any(|w| fits(w, n)));
            assert!(!names.is_empty(), "ARCH={wanted} names no entry");
        }
        names.iter().map(|n| Entry::read(n)).collect()
    }

    pub fn read(name: &str) -> Entry {
        let text = std::fs::read_to_string(fixture(&format!("architectures/entries/{name}.json"))).unwrap();
        let expected = Expected::read(&fixture(&format!("architectures/entries/{name}.safetensors")));
        Entry { name: name.to_owned(), about: serde_json::from_str(&text).unwrap(), expected }
    }

    pub fn model_type(&self) -> &str {
        self.about["config"]["model_type"].as_str().unwrap()
    }

    /// The model types that it tests: its own, and that of the text model inside.
    pub fn model_types(&self) -> Vec<&str> {
        let inside = self.about["config"]["text_config"]["model_type"].as_str();
        [Some(self.model_type()), inside].into_iter().flatten().collect()
    }

    /// The rows of token ids, all of one length.
    pub fn ids(&self) -> Vec<Vec<u32>> {
        self.expected.ids("ids")
    }

    /// How many tokens the shortened rows have.
    pub fn short(&self) -> usize {
        self.expected.shape("short.logits")[1]
    }

    /// What a position computes depends on later ones.
    pub fn looks_ahead(&self) -> bool {
        self.about["not_causal"] == true
    }

    /// Clauses of the name contract that this architecture does not keep, and why.
    pub fn excused(&self) -> BTreeMap<String, String> {
        serde_json::from_value(self.about["contract"].clone()).unwrap_or_default()
    }

    pub fn has_packed(&self) -> bool {
        self.about["packed"].is_object()
    }

    /// A bound that the entry widens, else the usual one.
    pub fn bound(&self, what: &str, usual: f32) -> f32 {
        self.about["bounds"][what].as_f64().map_or(usual, |b| b as f32)
    }

    pub fn sites(&self) -> Vec<Site> {
        let site = |s: &Value| Site {
            name: s[0].as_str().unwrap().to_owned(),
            shape: s[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect(),
            row: s[2].as_u64().unwrap() as usize,
        };
        self.about["sites"].as_array().unwrap().iter().map(site).collect()
    }

    /// The samples of a site that the reference computed.
    pub fn samples(&self, site: &Site) -> &[f32] {
        let elements = self.expected.shape("sites")[1];
        let n = elements.min(site.shape.iter().product());
        &self.expected.get("sites")[site.row * elements..][..n]
    }

    /// The same samples of a whole value: evenly spaced from the first to the last.
    pub fn sample(&self, values: &[f32]) -> Vec<f32> {
        let n = self.expected.shape("sites")[1].min(values.len());
        (0..n).map(|k| values[k * (values.len() - 1) / (n - 1).max(1)]).collect()
    }

    /// Loads the entry's checkpoint, written for the occasion.
    pub fn load(&self, stored: Stored, options: &LoadOptions) -> mlxterp::Result<Model> {
        let folder = tempfile::tempdir().unwrap();
        self.write(stored, folder.path());
        Model::load_with(folder.path().to_str().unwrap(), options, None)
    }

    /// Writes config.json and model.safetensors.
    pub fn write(&self, stored: Stored, folder: &Path) {
        let (config, tensors) = match stored {
            Stored::Float32 => (self.about["config"].clone(), self.plain(false)),
            Stored::Bfloat16 => (self.about["config"].clone(), self.plain(true)),
            Stored::OtherConfig => (self.about["saved_config"].clone(), self.plain(false)),
            Stored::Packed => self.packed(),
        };
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
        let views = tensors.iter().map(|t| (&*t.name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    }

    fn specs(tensors: &Value) -> Vec<Spec> {
        tensors.as_object().unwrap().iter().map(|(name, spec)| Spec::read(name, spec)).collect()
    }

    fn plain(&self, halved: bool) -> Vec<Tensor> {
        Self::specs(&self.about["tensors"]).iter().map(|s| Tensor::of(s, halved)).collect()
    }

    fn packed(&self) -> (Value, Vec<Tensor>) {
        let packed = &self.about["packed"];
        let tensors = if packed["tensors"].is_null() { &self.about["tensors"] } else { &packed["tensors"] };
        let mut settings = json!({"group_size": 32, "bits": 4, "mode": "affine"});
        let mut stored = Vec::new();
        for spec in Self::specs(tensors) {
            let Some(bits) = packed["bits"][&spec.name].as_u64() else {
                stored.push(Tensor::of(&spec, false));
                continue;
            };
            let path = spec.name.strip_suffix(".weight").unwrap();
            if bits != 4 {
                settings[path] = json!({"group_size": 32, "bits": bits});
            }
            let how = Quantization { group_size: 32, bits: bits as usize, mode: "affine".to_owned() };
            let whole = Array::from_slice(&spec.values(), &spec.shape).unwrap();
            for (part, name) in quantize(&whole, &how).unwrap().iter().zip(["weight", "scales", "biases"]) {
                stored.push(Tensor::of_array(format!("{path}.{name}"), part));
            }
        }
        let mut config = self.about["config"].clone();
        config["quantization"] = settings.clone();
        config["quantization_config"] = settings;
        (config, stored)
    }
}

/// What ARCH asks for.
pub fn asked_for() -> Option<String> {
    std::env::var("ARCH").ok().filter(|w| !w.is_empty())
}

/// A tensor as a file holds it.
struct Tensor {
    name: String,
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    fn of(spec: &Spec, halved: bool) -> Self {
        let values = spec.values().into_iter();
        let (dtype, bytes) = match &*spec.dtype {
            "F32" if halved => {
                (safetensors::Dtype::BF16, values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect())
            }
            "F32" => (safetensors::Dtype::F32, values.flat_map(f32::to_le_bytes).collect()),
            "I64" => (safetensors::Dtype::I64, values.flat_map(|v| (v as i64).to_le_bytes()).collect()),
            "I32" => (safetensors::Dtype::I32, values.flat_map(|v| (v as i32).to_le_bytes()).collect()),
            "U8" => (safetensors::Dtype::U8, values.map(|v| v as u8).collect()),
            other => panic!("{}: no fill for {other}", spec.name),
        };
        Tensor { name: spec.name.clone(), dtype, shape: spec.shape.clone(), bytes }
    }

    fn of_array(name: String, array: &Array) -> Self {
        let (dtype, bytes) = match array.dtype() {
            Dtype::Uint32 => (
                safetensors::Dtype::U32,
                array.to_vec::<u32>().unwrap().into_iter().flat_map(u32::to_le_bytes).collect(),
            ),
            Dtype::Float32 => (
                safetensors::Dtype::F32,
                array.to_vec::<f32>().unwrap().into_iter().flat_map(f32::to_le_bytes).collect(),
            ),
            other => panic!("{name}: {other}"),
        };
        Tensor { name, dtype, shape: array.dims(), bytes }
    }
}
