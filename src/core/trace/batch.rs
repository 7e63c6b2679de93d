//! What a run is over: tokens in rows of unequal length, padded on the right, or arrays of the user's.
//!
//! Right padding makes a row of a batch what its solo run is without any mask: a causal query never sees what comes
//! after it, positions count from the row's own beginning, and the row's last token is at its own length.

use std::sync::Arc;

use super::cache::{Cache, Segment};
use crate::core::tensor::Array;
use crate::error::{Result, bail};

/// Token ids `[batch, position]` with each row's own length, after the tokens that a cache has seen.
#[derive(Clone, Debug)]
pub struct Batch {
    rows: Vec<Vec<u32>>,
    lengths: Vec<usize>,
    width: usize,
    /// By slot: the token ids, or the arrays that the model takes.
    inputs: Vec<Array>,
    /// Position of each row's first token.
    starts: Vec<usize>,
    /// What the cache holds in front.
    past: Arc<Vec<Segment>>,
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
        let starts = vec![0; rows.len()];
        Ok(Self { rows, lengths, width, inputs: vec![ids], starts, past: Arc::default() })
    }

    /// One more token for each row that goes on, none for a row that has ended. To be continued from a cache.
    pub(crate) fn of_step(tokens: &[Option<u32>]) -> Result<Self> {
        let rows: Vec<Vec<u32>> = tokens.iter().map(|t| t.iter().copied().collect()).collect();
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let flat: Vec<i32> = tokens.iter().map(|t| t.unwrap_or(0) as i32).collect();
        let ids = Array::from_slice(&flat, &[rows.len(), 1])?;
        let starts = vec![0; rows.len()];
        Ok(Self { rows, lengths, width: 1, inputs: vec![ids], starts, past: Arc::default() })
    }

    /// Arrays instead of tokens, checked by the model: rows along axis 0, positions along axis 1 where there are three.
    pub(crate) fn of_arrays(inputs: Vec<Array>) -> Result<Self> {
        let Some(first) = inputs.first() else { bail!(InvalidArgument, "a batch of no arrays") };
        if first.ndim() == 0 || first.dim(0) == 0 {
            bail!(Shape, "an input of shape {:?}: its first axis counts the rows, at least one", first.shape());
        }
        let (n, width) = (first.dim(0), if first.ndim() == 3 { first.dim(1) } else { 1 });
        let rows = vec![Vec::new(); n];
        Ok(Self { rows, lengths: vec![width; n], width, inputs, starts: vec![0; n], past: Arc::default() })
    }

    /// The same tokens, standing after those that `cache` has seen.
    pub(super) fn after(mut self, cache: &Cache, context: Option<usize>) -> Result<Self> {
        if cache.is_empty() {
            return Ok(self);
        }
        let starts = cache.lengths();
        if starts.len() != self.len() {
            bail!(
                InvalidArgument,
                "the cache was made with {} rows, the batch has {}: both must be of the same rows",
                starts.len(),
                self.len()
            );
        }
        for (r, (start, length)) in starts.iter().zip(&self.lengths).enumerate() {
            if let Some(limit) = context.filter(|c| start + length > *c) {
                bail!(
                    InvalidArgument,
                    "row {r} has {start} tokens in the cache and {length} new ones, the model's context has {limit} \
                     (max_position_embeddings)"
                );
            }
        }
        self.starts = starts;
        self.past = cache.segments().clone();
        Ok(self)
    }

    /// Each row `n` times over: row `i` of the result is row `i % len` of this batch.
    pub(super) fn repeated(&self, n: usize) -> Result<Self> {
        // A list of this many prompts fits in memory; a number a thousand times larger would end the process instead.
        let most = 1 << 20;
        if n > most / self.rows.len().max(1) {
            bail!(InvalidArgument, "fork_rows({n}): a batch of more than {most} rows");
        }
        let rows: Vec<_> = self.rows.iter().cloned().cycle().take(self.rows.len() * n).collect();
        // An array that is no row of anything (a table, say) is shared by all rows as it is.
        let all = |a: &Array| match a.ndim() > 0 && a.dim(0) == self.len() {
            true => crate::core::tensor::concatenate(std::iter::repeat_n(a, n), 0),
            false => Ok(a.clone()),
        };
        let inputs = self.inputs.iter().map(all).collect::<Result<_>>()?;
        let past = self.past.iter().map(|s| Segment { width: s.width, lengths: s.lengths.repeat(n) }).collect();
        Ok(Self {
            lengths: self.lengths.repeat(n),
            rows,
            width: self.width,
            inputs,
            starts: self.starts.repeat(n),
            past: Arc::new(past),
        })
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

    /// The ids `[batch, position]`, int32, padded on the right; of a model that takes arrays, the first of them.
    pub fn ids(&self) -> &Array {
        &self.inputs[0]
    }

    /// What the run is given, by slot: the ids, or the arrays that the model takes.
    pub fn inputs(&self) -> &[Array] {
        &self.inputs
    }

    /// Whether it is over token ids rather than arrays.
    pub fn is_tokens(&self) -> bool {
        self.rows.iter().any(|row| !row.is_empty())
    }

    /// Position of each row's first token: how many tokens its cache has seen.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Position of the first token, when it is the same for all rows.
    pub fn start(&self) -> Option<usize> {
        let first = self.starts.first().copied().unwrap_or(0);
        self.starts.iter().all(|s| *s == first).then_some(first)
    }

    /// Columns that a cache holds in front of this batch's own.
    pub fn past_width(&self) -> usize {
        self.past.iter().map(|s| s.width).sum()
    }

    /// Whether a column of the cache is padding in some row.
    pub(super) fn has_gaps(&self) -> bool {
        self.past.iter().any(|s| s.lengths.iter().any(|n| *n != s.width))
    }

    /// The position of every column of the cache and of this batch, row after row. Padding of the cache stands behind
    /// everything, where no causal query looks.
    pub(super) fn column_positions(&self) -> Vec<i32> {
        let mut out = Vec::with_capacity(self.len() * (self.past_width() + self.width));
        for r in 0..self.len() {
            let mut at = 0;
            for s in self.past.iter() {
                let own = s.lengths[r];
                out.extend((0..s.width).map(|c| if c < own { (at + c) as i32 } else { NOWHERE }));
                at += own;
            }
            out.extend((0..self.width).map(|c| (at + c) as i32));
        }
        out
    }

    /// What this batch adds to a cache.
    pub(super) fn segment(&self) -> Segment {
        Segment { width: self.width, lengths: self.lengths.clone() }
    }
}

/// The position of padding: behind every token, and far enough from the end of int32 to add a window.
pub(super) const NOWHERE: i32 = 1 << 30;
