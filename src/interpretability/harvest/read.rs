//! A harvest read back, shard by shard.

use std::path::{Path, PathBuf};

use super::index::{FILE, Index};
use crate::core::tensor::Array;
use crate::core::weights::store;
use crate::error::{Result, bail, err};

/// A harvest on disk.
#[derive(Clone, Debug)]
pub struct Harvest {
    folder: PathBuf,
    /// What it has.
    pub index: Index,
}

/// One shard in memory.
#[derive(Clone, Debug)]
pub struct Shard {
    /// `[vector, width]` by site, in the index's order.
    pub sites: Vec<(String, Array)>,
    /// `[vector]`, uint32: the token at which each vector stands.
    pub tokens: Array,
    /// Its document's number.
    pub documents: Array,
    /// Its place among the document's tokens.
    pub positions: Array,
}

impl Harvest {
    /// Opens a folder. Errors: no harvest there; a shard that is missing or not whole.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        match Index::read(&folder)? {
            Some(index) => Ok(Self { folder, index }),
            None => bail!(NotFound, "no harvest in `{}`: there is no {FILE}", folder.display()),
        }
    }

    /// Reads a shard by its number.
    pub fn shard(&self, number: usize) -> Result<Shard> {
        let Some(shard) = self.index.shards.get(number) else {
            bail!(InvalidArgument, "no shard {number}: the harvest has {}", self.index.shards.len());
        };
        let path = self.folder.join(&shard.file);
        let mut file = store::load(&path)?;
        let mut take = |name: &str| {
            file.arrays.remove(name).ok_or_else(|| err!(Corrupt, "{}: no tensor '{name}'", path.display()))
        };
        let sites = self.index.sites.iter().map(|s| Ok((s.name.clone(), take(&s.name)?)));
        let sites = sites.collect::<Result<_>>()?;
        Ok(Shard { sites, tokens: take("tokens")?, documents: take("documents")?, positions: take("positions")? })
    }

    /// All shards, one in memory at a time.
    pub fn shards(&self) -> impl Iterator<Item = Result<Shard>> + '_ {
        (0..self.index.shards.len()).map(|i| self.shard(i))
    }
}
