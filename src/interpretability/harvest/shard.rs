//! A shard in the making: bytes of vectors, and where each stands.

use std::collections::BTreeMap;
use std::path::Path;

use super::index::{FORMAT, Index, IndexedShard};
use crate::core::tensor::{Array, Dtype};
use crate::core::weights::store;
use crate::error::Result;

/// What it has so far.
#[derive(Default)]
pub(super) struct Filling {
    /// By site.
    pub bytes: Vec<Vec<u8>>,
    pub tokens: Vec<u32>,
    pub documents: Vec<u32>,
    pub positions: Vec<u32>,
}

impl Filling {
    pub fn new(sites: usize) -> Self {
        Self { bytes: vec![Vec::new(); sites], ..Self::default() }
    }

    /// Vectors of each site.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Writes it under the next number and adds it to the index, which is not written yet.
    pub fn write(self, folder: &Path, index: &mut Index, dtype: Dtype) -> Result<()> {
        let n = self.len();
        let file = format!("shard-{:05}.safetensors", index.shards.len());
        let mut arrays = Vec::new();
        for (site, bytes) in index.sites.iter().zip(&self.bytes) {
            arrays.push((site.name.clone(), Array::from_bytes(bytes, &[n, site.width], dtype)?));
        }
        drop(self.bytes);
        for (name, numbers) in
            [("tokens", &self.tokens), ("documents", &self.documents), ("positions", &self.positions)]
        {
            arrays.push((name.to_owned(), Array::from_slice(numbers, &[n])?));
        }
        let sites: Vec<&str> = index.sites.iter().map(|s| s.name.as_str()).collect();
        let metadata = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("model".to_owned(), index.model.clone()),
            ("dtype".to_owned(), dtype.name().to_owned()),
            ("sites".to_owned(), sites.join(" ")),
        ]);
        store::save(&folder.join(&file), &arrays, &metadata)?;
        index.shards.push(IndexedShard { file, vectors: n as u64 });
        index.vectors += n as u64;
        Ok(())
    }
}
