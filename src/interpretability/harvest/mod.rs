//! Harvesting: the activations of sites over a data set, written to disk as they come, to be used again and again.
//!
//! A harvest is a folder: `index.json`, and shards `shard-00000.safetensors`, … . Each shard has for every site a tensor of
//! its name `[vector, width]`, and `tokens`, `documents` and `positions` `[vector]`, uint32: the token a vector stands at, its
//! document in the data set, and its place among the document's tokens. Vectors are in the order of the data set.
//!
//! Nothing is lost and nothing is there twice when a harvest is ended at any moment and begun again: a shard gets its name
//! when it is whole, and counts once the index names it. What comes out is the same to the last bit.

mod index;
mod options;
mod pieces;
mod read;
mod run;
mod shard;

pub use index::{Index, IndexedShard, IndexedSite};
pub use options::{HarvestOptions, Long, Part};
pub use read::{Harvest, Shard};
pub use run::harvest;
