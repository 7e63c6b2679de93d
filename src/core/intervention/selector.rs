//! Which part of a site is meant, as a boolean mask over it.

use serde::{Deserialize, Serialize};

use crate::core::arch::tape::Layout;
use crate::core::tensor::{self, Array};
use crate::core::trace::Batch;
use crate::error::{Result, bail};

/// Positions, the same for every row or each row's own; negative counts from that row's own end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Positions {
    /// The same list for every row.
    Same(Vec<i64>),
    /// One list a row.
    ByRow(Vec<Vec<i64>>),
}

/// Part of a site; what is `None` is not restricted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Rows of the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<i64>>,
    /// Token positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    /// Heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<i64>>,
    /// Features of the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons: Option<Vec<i64>>,
}

/// Places of the meanings among a layout's axes.
pub(super) struct Axes {
    pub position: Option<usize>,
    pub head: Option<usize>,
    pub feature: Option<usize>,
}

/// Where rows (always axis 0), positions, heads and features stand.
pub(super) fn axes(layout: Layout, ndim: usize) -> Option<Axes> {
    let (position, head, feature) = match layout {
        Layout::Tokens => (Some(1), None, None),
        // `[batch, feature]`, or images and the like, in models that take arrays: rows and features, but no positions.
        Layout::Hidden if ndim != 3 => (None, None, ndim.checked_sub(1)),
        Layout::Hidden => (Some(1), None, Some(2)),
        Layout::Heads => (Some(2), Some(1), Some(3)),
        Layout::PerHead => (Some(1), Some(2), Some(3)),
        Layout::Scores => (Some(2), Some(1), None),
        Layout::Experts => (Some(1), None, ndim.checked_sub(1)),
        Layout::Other => return None,
    };
    let there = |axis: &usize| *axis < ndim;
    let axes = Axes { position, head, feature };
    [position, head, feature].iter().flatten().all(there).then_some(axes).filter(|_| ndim > 0)
}

impl Selector {
    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        *self == Selector::default()
    }

    /// The mask over a site of this shape: true where the selector points, broadcast over what it does not restrict.
    pub(super) fn mask(&self, site: &str, layout: Layout, shape: &[i32], batch: &Batch) -> Result<Array> {
        let Some(axes) = axes(layout, shape.len()) else {
            bail!(
                InvalidArgument,
                "'{site}' has shape {shape:?}, whose axes have no names: select nothing, or slice it yourself"
            );
        };
        let mut parts = Vec::new();
        let size = |axis: usize| shape[axis] as usize;
        if let Some(rows) = &self.rows {
            parts.push(along(0, shape.len(), &marks(rows, size(0), site, "row")?)?);
        }
        if let Some(positions) = &self.positions {
            let Some(axis) = axes.position else {
                bail!(InvalidArgument, "'{site}' has no position axis (shape {shape:?}): select rows or neurons");
            };
            parts.push(self.position_mask(positions, site, axis, shape, batch)?);
        }
        if let Some(heads) = &self.heads {
            let Some(axis) = axes.head else {
                bail!(
                    InvalidArgument,
                    "'{site}' has no head axis (shape {shape:?}): select heads at attn.q, k, v, z, scores, pattern or result"
                );
            };
            parts.push(along(axis, shape.len(), &marks(heads, size(axis), site, "head")?)?);
        }
        if let Some(neurons) = &self.neurons {
            let Some(axis) = axes.feature else {
                bail!(InvalidArgument, "'{site}' has no feature axis (shape {shape:?})");
            };
            parts.push(along(axis, shape.len(), &marks(neurons, size(axis), site, "neuron")?)?);
        }
        let mut mask = match parts.pop() {
            Some(m) => m,
            None => Array::from_slice(&[true], &[])?,
        };
        for p in parts {
            mask = tensor::and(&mask, &p)?;
        }
        Ok(mask)
    }

    fn position_mask(&self, p: &Positions, site: &str, axis: usize, shape: &[i32], batch: &Batch) -> Result<Array> {
        let width = shape[axis] as usize;
        let lists: Vec<&Vec<i64>> = match p {
            Positions::Same(list) => vec![list; batch.len()],
            Positions::ByRow(lists) if lists.len() == batch.len() => lists.iter().collect(),
            Positions::ByRow(lists) => bail!(
                InvalidArgument,
                "positions for {} rows, but the batch has {}: give one list a row",
                lists.len(),
                batch.len()
            ),
        };
        let chosen = |row: usize| match &self.rows {
            None => true,
            Some(rows) => rows.iter().any(|r| r.rem_euclid(batch.len() as i64) as usize == row),
        };
        let mut marked = vec![false; batch.len() * width];
        for (row, list) in lists.iter().enumerate().filter(|(row, _)| chosen(*row)) {
            let own = batch.lengths()[row];
            // A row that ended in an earlier step of a generation has no position to change.
            if own == 0 {
                continue;
            }
            for (p, m) in marks(list, own, site, &format!("position (row {row} has {own} tokens)"))?.iter().enumerate()
            {
                marked[row * width + p] |= m;
            }
        }
        let mut dims = vec![1; shape.len()];
        (dims[0], dims[axis]) = (batch.len(), width);
        Array::from_slice(&marked, &dims)
    }
}

/// Marks for the chosen indices of an axis of length `n`.
fn marks(chosen: &[i64], n: usize, site: &str, what: &str) -> Result<Vec<bool>> {
    let mut marked = vec![false; n];
    for i in chosen {
        let at = if *i < 0 { *i + n as i64 } else { *i };
        match usize::try_from(at).ok().and_then(|at| marked.get_mut(at)) {
            Some(m) => *m = true,
            None => bail!(InvalidArgument, "'{site}' has no {what} {i}: there are {n}"),
        }
    }
    Ok(marked)
}

fn along(axis: usize, ndim: usize, marked: &[bool]) -> Result<Array> {
    let mut dims = vec![1; ndim];
    dims[axis] = marked.len();
    Array::from_slice(marked, &dims)
}
