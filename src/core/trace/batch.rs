//! The tokens of a run: rows of unequal length, padded on the right.
//!
//! Right padding makes a row of a batch what its solo run is without any mask: a causal query never sees what comes
//! after it, positions count from the row's own beginning, and the row's last token is at its own length.

use crate::core::tensor::Array;
use crate::error::{Result, bail};

/// Token ids `[batch, position]` with each row's own length.
#[derive(Clone, Debug)]
pub struct Batch {
    rows: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    width: usize,
    ids: Array,
}

impl Batch {
    /// Checks and pads rows of token ids. `vocab` bounds the ids, `context` the length; `pad` fills short rows.
    pub fn new(rows: Vec<Vec<u32>>, vocab: usize, context: Option<usize>, pad: u32) -> Result<Self> {
        if rows.is_empty() {
            bail!(InvalidArgument, "an empty batch: give at least one prompt");
        }
        let many = rows.len() > 1;
        for (r, row) in rows.iter().enumerate() {
            let which = if many { format!("prompt {r}") } else { "the prompt".to_owned() };
            if row.is_empty() {
                bail!(InvalidArgument, "{which} is empty: it needs at least one token");
            }
            if let Some((p, id)) = row.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
                bail!(
                    InvalidArgument,
                    "token id {id} at position {p} of {which} is out of range: the vocabulary has {vocab} tokens"
                );
            }
            if let Some(limit) = context.filter(|c| row.len() > *c) {
                bail!(
                    InvalidArgument,
                    "{which} has {} tokens, the model's context has {limit} (max_position_embeddings)",
                    row.len()
                );
            }
        }
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let padding = if (pad as usize) < vocab { pad } else { 0 };
        let flat: Vec<i32> =
            rows.iter().flat_map(|row| (0..width).map(|p| row.get(p).copied().unwrap_or(padding) as i32)).collect();
        let ids = Array::from_slice(&flat, &[rows.len(), width])?;
        Ok(Self { rows, lengths, width, ids })
    }

    /// Each row `n` times over: row `i` of the result is row `i % len` of this batch.
    pub(super) fn repeated(&self, n: usize) -> Result<Self> {
        // A list of this many prompts fits in memory; a number a thousand times larger would end the process instead.
        let most = 1 << 20;
        if n > most / self.rows.len().max(1) {
            bail!(InvalidArgument, "fork_rows({n}): a batch of more than {most} rows");
        }
        let rows: Vec<_> = self.rows.iter().cloned().cycle().take(self.rows.len() * n).collect();
        let ids = crate::core::tensor::concatenate(std::iter::repeat_n(&self.ids, n), 0)?;
        Ok(Self { lengths: rows.iter().map(Vec::len).collect(), rows, width: self.width, ids })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never: a batch has at least one row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Positions of the longest row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokens of each row.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Each row's own tokens, without padding.
    pub fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// Whether any row is shorter than the longest.
    pub fn is_padded(&self) -> bool {
        self.lengths.iter().any(|n| *n != self.width)
    }

    /// The ids `[batch, position]`, int32, padded on the right.
    pub fn ids(&self) -> &Array {
        &self.ids
    }

    /// Position of the first token: 0 until generation brings a cache.
    pub(super) fn offset(&self) -> usize {
        0
    }
}
