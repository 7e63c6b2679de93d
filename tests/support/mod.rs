//! What the integration tests share: fixtures, models, comparisons.
#![allow(dead_code)]

pub mod contract;
pub mod edges;
pub mod entry;
pub mod fill;
pub mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Array;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(path: &str) -> PathBuf {
    root().join("tests/fixtures").join(path)
}

pub fn tiny(name: &str) -> Model {
    load(&fixture(&format!("tiny/{name}")), &LoadOptions::default())
}

pub fn load(path: &Path, options: &LoadOptions) -> Model {
    Model::load_with(path.to_str().unwrap(), options, None).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// SmolLM2-135M-Instruct, fetched by the set-up.
pub fn smollm2_path() -> PathBuf {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing: run `cargo xtask fetch-model`", path.display());
    path
}

pub fn smollm2() -> Model {
    load(&smollm2_path(), &LoadOptions::default())
}

/// Its 4-bit copy in mlx-lm's layout, made by the set-up.
pub fn smollm2_4bit_path() -> PathBuf {
    let path = root().join("target/models/smollm2-4bit");
    assert!(path.exists(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

/// Every folder with a tiny checkpoint.
pub fn tiny_names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixture("tiny"))
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().join("config.json").exists())
        .map(|e| e.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 40, "the tiny checkpoints are missing");
    names
}

/// Expected numbers: float32, or int32 widened to float32 (exact for token ids).
pub struct Expected(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Expected {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(name, t)| {
            let numbers = t.data().chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
            let values = match t.dtype() {
                safetensors::Dtype::F32 => numbers.map(f32::from_le_bytes).collect(),
                safetensors::Dtype::I32 => numbers.map(|b| i32::from_le_bytes(b) as f32).collect(),
                other => panic!("{name}: {other:?}"),
            };
            (name, (t.shape().to_vec(), values))
        });
        Expected(tensors.collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> &[f32] {
        &self.0.get(name).unwrap_or_else(|| panic!("no expectation '{name}'")).1
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    /// Rows of token ids.
    pub fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        let width = *self.shape(name).last().unwrap();
        self.get(name).chunks(width).map(|row| row.iter().map(|v| *v as u32).collect()).collect()
    }

    /// The padded batch as rows of their own lengths.
    pub fn padded(&self) -> Vec<Vec<u32>> {
        let lengths = self.get("batch.lengths");
        self.ids("batch.ids").into_iter().zip(lengths).map(|(row, n)| row[..*n as usize].to_vec()).collect()
    }
}

/// max |a - b| / max |b|
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "sizes differ");
    assert!(a.iter().chain(b).all(|v| v.is_finite()), "not finite");
    let top = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(top > 0.0, "the expectation is all zeros");
    a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs())) / top
}

#[track_caller]
pub fn assert_close(a: &[f32], b: &[f32], bound: f32, what: &str) -> f32 {
    let d = difference(a, b);
    assert!(d <= bound, "{what}: off by {d:e}, allowed {bound:e}");
    d
}

pub fn values(a: &Array) -> Vec<f32> {
    a.to_vec::<f32>().unwrap()
}

/// The real positions of one row of `[rows, width, …]`.
pub fn row(a: &Array, row: usize, length: usize) -> Vec<f32> {
    let dims = a.dims();
    let per_position: usize = dims[2..].iter().product();
    let all = values(a);
    let start = row * dims[1] * per_position;
    all[start..start + length * per_position].to_vec()
}

/// Bit patterns, for "the same to the last bit".
pub fn bits(a: &Array) -> Vec<u32> {
    values(a).into_iter().map(f32::to_bits).collect()
}
