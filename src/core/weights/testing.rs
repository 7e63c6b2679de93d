//! What the tests of this room share: small files built byte by byte, valid until a test breaks them.

use serde_json::Value;

/// A safetensors file from its header and data.
pub(super) fn safetensors(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A GGUF string.
pub(super) fn string(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

/// The parts of a GGUF file before they are written.
#[derive(Clone, Default)]
pub(super) struct GgufParts {
    /// Key, number of the value's type, the value's bytes.
    pub(super) pairs: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions in ggml's order, number of the type, offset.
    pub(super) tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub(super) data: Vec<u8>,
}

impl GgufParts {
    pub(super) fn pair(mut self, key: &str, kind: u32, value: impl AsRef<[u8]>) -> Self {
        self.pairs.push((key.to_owned(), kind, value.as_ref().to_vec()));
        self
    }

    pub(super) fn str(self, key: &str, value: &str) -> Self {
        self.pair(key, 8, string(value))
    }

    pub(super) fn u32(self, key: &str, value: u32) -> Self {
        self.pair(key, 4, value.to_le_bytes())
    }

    pub(super) fn f32(self, key: &str, value: f32) -> Self {
        self.pair(key, 6, value.to_le_bytes())
    }

    pub(super) fn strs(self, key: &str, values: &[&str]) -> Self {
        let mut bytes = [8u32.to_le_bytes().as_slice(), &(values.len() as u64).to_le_bytes()].concat();
        values.iter().for_each(|v| bytes.extend(string(v)));
        self.pair(key, 9, bytes)
    }

    /// Adds a tensor behind the data so far, padded to the usual alignment.
    pub(super) fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensors.push((name.to_owned(), dims.to_vec(), kind, self.data.len() as u64));
        self.data.extend(bytes);
        self
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes_with(3, self.tensors.len() as u64, self.pairs.len() as u64)
    }

    /// The file's bytes with a version and counts of the test's choosing.
    pub(super) fn bytes_with(&self, version: u32, tensors: u64, pairs: u64) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(version.to_le_bytes());
        out.extend(tensors.to_le_bytes());
        out.extend(pairs.to_le_bytes());
        for (key, kind, value) in &self.pairs {
            out.extend(string(key));
            out.extend(kind.to_le_bytes());
            out.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            out.extend(string(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}
