//! Writing a small GGUF file: texts, numbers and float32 vectors, laid out as ggml's own writer does.

use std::io::Write;
use std::path::Path;

use super::{DEFAULT_ALIGNMENT, MAGIC};
use crate::core::weights::store::replace;
use crate::error::Result;

/// Numbers of the types in a file.
const STRING: u32 = 8;
const UINT32: u32 = 4;
const F32: u32 = 0;

/// A file in the making.
#[derive(Clone, Debug, Default)]
pub struct GgufFile {
    pairs: Vec<u8>,
    pair_count: u64,
    /// Names and numbers.
    tensors: Vec<(String, Vec<f32>)>,
}

impl GgufFile {
    /// An empty one of an architecture.
    pub fn new(architecture: &str) -> Self {
        Self::default().text("general.architecture", architecture)
    }

    /// With a text.
    pub fn text(self, key: &str, value: &str) -> Self {
        let mut bytes = Vec::new();
        string(&mut bytes, value);
        self.pair(key, STRING, &bytes)
    }

    /// With a number.
    pub fn number(self, key: &str, value: u32) -> Self {
        self.pair(key, UINT32, &value.to_le_bytes())
    }

    fn pair(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        string(&mut self.pairs, key);
        self.pairs.extend(kind.to_le_bytes());
        self.pairs.extend(value);
        self.pair_count += 1;
        self
    }

    /// With a vector.
    pub fn vector(mut self, name: &str, values: &[f32]) -> Self {
        self.tensors.push((name.to_owned(), values.to_vec()));
        self
    }

    /// Writes it; a file that is there is replaced whole.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.bytes();
        replace(path, |out| out.write_all(&bytes))
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.pair_count.to_le_bytes());
        out.extend(&self.pairs);
        let mut offset = 0u64;
        for (name, values) in &self.tensors {
            string(&mut out, name);
            out.extend(1u32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            out.extend(F32.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (values.len() as u64 * 4).next_multiple_of(DEFAULT_ALIGNMENT as u64);
        }
        let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        pad(&mut out);
        for (_, values) in &self.tensors {
            values.iter().for_each(|v| out.extend(v.to_le_bytes()));
            pad(&mut out);
        }
        out
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
