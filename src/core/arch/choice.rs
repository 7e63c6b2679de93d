//! Operations that choose: experts for tokens, keys for queries, rows of a table.

use super::tape::Slot;

/// How a choice is made, or what is done with one.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Input scores (and, if given, the scores that decide): the places of the `k` largest of the last axis, the
    /// largest first, of equals the first. Of `groups` equal groups only the `keep` best take part, the scores of the
    /// others count as `fill`.
    TopK {
        /// How many.
        k: usize,
        /// Groups of neighbours.
        groups: usize,
        /// Groups that take part.
        keep: usize,
        /// A group is as good as its best score; otherwise as the sum of its two best.
        by_best: bool,
        /// What the scores of other groups count as.
        fill: f64,
    },
    /// Input scores; outputs the `k` best and their weights: a softmax over what is left and close to the best of it.
    SparseMixer {
        /// How many.
        k: usize,
        /// Half of how far below the best a score may lie, as a share of the larger of the two sizes.
        jitter: f64,
    },
    /// Inputs y `[…,k,d]` and weights `[…,k]`: the weighted sum over `k`, in y's dtype.
    Combine,
    /// Inputs x and places in its last axis.
    Take,
    /// Inputs a table and row numbers.
    Gather,
    /// Inputs x, places in its last axis and what is put there.
    Put,
    /// The place of the largest of the last axis.
    ArgMax,
    /// Zeros of the same shape and dtype.
    ZerosLike,
    /// Input scores `[…,query,key]`: whether a key is among the `k` best that its query may see.
    TopKMask {
        /// How many.
        k: usize,
    },
    /// The features of these numbers become minus infinity.
    MaskIds(Vec<usize>),
    /// Inputs q, k `[B,n,L,d]`: whether a key's block is among the `local` blocks before the query's, or every
    /// `stride`th, which ones differing from head to head. `[n,query,key]`
    BlockSparse {
        /// Tokens of a block.
        block: usize,
        /// Neighbouring blocks.
        local: usize,
        /// Distance of the others.
        stride: usize,
    },
}

impl Choice {
    /// Which of its inputs gradients of its outputs reach.
    pub fn gradients_reach(&self, inputs: &[Slot]) -> Vec<Slot> {
        let which: &[usize] = match self {
            Choice::Combine => &[0, 1],
            Choice::SparseMixer { .. } | Choice::Take | Choice::Gather | Choice::MaskIds(_) => &[0],
            Choice::Put => &[0, 2],
            Choice::TopK { .. }
            | Choice::ArgMax
            | Choice::ZerosLike
            | Choice::TopKMask { .. }
            | Choice::BlockSparse { .. } => &[],
        };
        which.iter().filter_map(|i| inputs.get(*i).copied()).collect()
    }
}
