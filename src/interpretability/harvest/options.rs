//! What is harvested, and how.

use serde::{Deserialize, Serialize};

use crate::core::model::Model;
use crate::core::tensor::Dtype;
use crate::error::{Result, bail};

/// What becomes of a document of more tokens than run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Long {
    /// Its tokens are run in pieces of that many, each a run of its own that sees nothing of the others.
    #[default]
    Chunk,
    /// Only its first tokens are run.
    Truncate,
}

/// What is harvested, and how. A harvest that is begun again must be given the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HarvestOptions {
    /// Names or patterns of sites with a position axis.
    pub sites: Vec<String>,
    /// In which dtype vectors are kept: "float32", "bfloat16", "float16".
    pub dtype: String,
    /// How many tokens run at once at most.
    pub max_tokens: usize,
    /// What becomes of longer documents.
    pub long: Long,
    /// Whether vectors at special tokens (those that begin and end a text, a chat's marks) are left out.
    pub skip_special: bool,
    /// Rows that run together.
    pub batch_size: usize,
    /// Batches whose rows are sorted by length together, so that little is padding. The order of what is written is the
    /// data set's all the same.
    pub window: usize,
    /// A shard is closed once it has this many vectors. Memory is this many and those of one window.
    pub shard_vectors: usize,
}

impl Default for HarvestOptions {
    fn default() -> Self {
        Self {
            sites: Vec::new(),
            dtype: "float32".to_owned(),
            max_tokens: 256,
            long: Long::default(),
            skip_special: true,
            batch_size: 8,
            window: 4,
            shard_vectors: 32_768,
        }
    }
}

/// Which part of a data set is given: all of it, or some documents in the middle, as a front end has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the first document given in the whole data set.
    pub start: u64,
    /// Whether the data set ends with them.
    pub last: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { start: 0, last: true }
    }
}

impl HarvestOptions {
    /// Refuses what cannot be meant, and gives the dtype.
    pub(super) fn check(&self, model: &Model) -> Result<Dtype> {
        let numbers = [
            ("max_tokens", self.max_tokens),
            ("batch_size", self.batch_size),
            ("window", self.window),
            ("shard_vectors", self.shard_vectors),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, n)| *n == 0) {
            bail!(InvalidArgument, "{name} 0: it must be at least 1");
        }
        if let Some(limit) = model.context_length().filter(|c| *c < self.max_tokens) {
            bail!(InvalidArgument, "max_tokens {}: the model's context has {limit} tokens", self.max_tokens);
        }
        match Dtype::from_name(&self.dtype)? {
            dtype @ (Dtype::Float32 | Dtype::Bfloat16 | Dtype::Float16) => Ok(dtype),
            other => bail!(InvalidArgument, "dtype {other}: vectors are kept as float32, bfloat16 or float16"),
        }
    }
}
