//! `index.json`: what a harvest has, and how far it has come.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::options::HarvestOptions;
use crate::core::weights::{Checkpoint, store};
use crate::error::{Result, bail, err};

pub(super) const FORMAT: &str = "mlxterp.harvest";
pub(super) const FILE: &str = "index.json";

/// A site of a harvest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexedSite {
    /// Its name, and that of its tensors.
    pub name: String,
    /// Numbers in a vector; heads stand one after another.
    pub width: usize,
    /// The sum of the vectors' lengths.
    pub norms: f64,
}

/// A shard that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedShard {
    /// Name of the file in the harvest's folder.
    pub file: String,
    /// Vectors of each site.
    pub vectors: u64,
}

/// What a harvest has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// "mlxterp.harvest"
    pub format: String,
    /// 1
    pub version: u32,
    /// The model.
    pub model: String,
    /// With what it was begun.
    pub options: HarvestOptions,
    /// What every run is under, in words.
    pub interventions: Vec<String>,
    /// The sites, and how long their vectors are.
    pub sites: Vec<IndexedSite>,
    /// In the order of the data set.
    pub shards: Vec<IndexedShard>,
    /// Documents that are done.
    pub documents: u64,
    /// Pieces that are done of the document after them.
    pub pieces: u64,
    /// Vectors of each site in all shards.
    pub vectors: u64,
    /// Of the documents begun: a data set that changed is not gone on with.
    pub fingerprint: String,
    /// Whether the data set is done.
    pub complete: bool,
}

impl Index {
    /// Reads that of a folder; none where there is none. A shard that it names and that is not whole is an error.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => bail!(Io, "cannot read `{}`: {e}", path.display()),
        };
        let index: Self = serde_json::from_str(&text)
            .map_err(|e| err!(Corrupt, "{}: not the index of a harvest: {e}", path.display()))?;
        if index.format != FORMAT || index.version != 1 {
            bail!(
                Unsupported,
                "{}: format {} {}: this library reads {FORMAT} 1",
                path.display(),
                index.format,
                index.version
            );
        }
        for shard in &index.shards {
            shard.check(folder, &index)?;
        }
        Ok(Some(index))
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| err!(Backend, "index: {e}"))?;
        store::replace(&folder.join(FILE), |out| out.write_all(text.as_bytes()))
    }
}

impl IndexedShard {
    /// Refuses a file that is not what the index says.
    fn check(&self, folder: &Path, index: &Index) -> Result<()> {
        // The index is a file too: its names must not lead elsewhere.
        if self.file.contains(['/', '\\']) {
            bail!(Corrupt, "the index names a shard '{}' that is not in its folder", self.file);
        }
        let path = folder.join(&self.file);
        let way_out = "harvest into a new folder, or put the file back";
        let file = Checkpoint::open_safetensors(&path).map_err(|e| e.context(way_out))?;
        for site in &index.sites {
            let wanted = [self.vectors as usize, site.width];
            match file.tensors().get(&site.name) {
                Some(found) if found.shape() == wanted => {}
                Some(found) => bail!(
                    Corrupt,
                    "{}: '{}' has shape {:?}, the index says {wanted:?}: {way_out}",
                    path.display(),
                    site.name,
                    found.shape()
                ),
                None => bail!(Corrupt, "{}: no tensor '{}': {way_out}", path.display(), site.name),
            }
        }
        Ok(())
    }
}
