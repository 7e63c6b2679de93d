//! Pairs of prompts, and which position of one stands for which of the other.

use super::options::{Align, Direction};
use crate::core::model::{Model, Prompts};
use crate::core::trace::Batch;
use crate::error::{Result, bail};

/// Clean and corrupted prompts, a row each, and what is put where.
pub(super) struct Pairs {
    pub clean: Batch,
    pub corrupt: Batch,
    /// By pair: (clean position, corrupted position).
    map: Vec<Vec<(usize, usize)>>,
    /// Whether the user said which positions belong together.
    pub told: bool,
}

impl Pairs {
    /// Checks them. Errors: no pairs, more of one than of the other, lengths that differ without an alignment.
    pub fn new(model: &Model, clean: Prompts, corrupt: Prompts, align: Option<&Align>) -> Result<Self> {
        let clean = model.batch(clean).map_err(|e| e.context("the clean prompts"))?;
        let corrupt = model.batch(corrupt).map_err(|e| e.context("the corrupted prompts"))?;
        if !clean.is_tokens() {
            bail!(Unsupported, "patching needs prompts of tokens: the model takes arrays");
        }
        if clean.len() != corrupt.len() {
            bail!(
                InvalidArgument,
                "{} clean prompts and {} corrupted ones: they go in pairs",
                clean.len(),
                corrupt.len()
            );
        }
        let lists: Vec<Option<&Vec<(i64, i64)>>> = match align {
            None => vec![None; clean.len()],
            Some(Align::Same(list)) => vec![Some(list); clean.len()],
            Some(Align::ByPair(lists)) if lists.len() == clean.len() => lists.iter().map(Some).collect(),
            Some(Align::ByPair(lists)) => {
                bail!(InvalidArgument, "alignments for {} pairs of prompts, there are {}", lists.len(), clean.len())
            }
        };
        let mut map = Vec::new();
        for (pair, list) in lists.iter().enumerate() {
            let (a, b) = (clean.lengths()[pair], corrupt.lengths()[pair]);
            map.push(match list {
                Some(list) => aligned(list, a, b, pair)?,
                None if a == b => (0..a).map(|p| (p, p)).collect(),
                None => bail!(
                    InvalidArgument,
                    "pair {pair}: the clean prompt has {a} tokens, the corrupted one {b}. Word them so that both have as \
                     many, or say with `align` which positions belong together: pairs [clean, corrupted], negative from the \
                     end, such as [[0, 0], [-1, -1]]"
                ),
            });
        }
        Ok(Self { clean, corrupt, map, told: align.is_some() })
    }

    /// The prompts that are patched, and those that the values come from.
    pub fn runs(&self, direction: Direction) -> (&Batch, &Batch) {
        match direction {
            Direction::Denoising => (&self.corrupt, &self.clean),
            Direction::Noising => (&self.clean, &self.corrupt),
        }
    }

    /// By pair: (position that is patched, position the value comes from).
    pub fn map(&self, direction: Direction) -> Vec<Vec<(usize, usize)>> {
        let turned = |(clean, corrupt): &(usize, usize)| match direction {
            Direction::Denoising => (*corrupt, *clean),
            Direction::Noising => (*clean, *corrupt),
        };
        self.map.iter().map(|list| list.iter().map(turned).collect()).collect()
    }
}

fn aligned(list: &[(i64, i64)], clean: usize, corrupt: usize, pair: usize) -> Result<Vec<(usize, usize)>> {
    if list.is_empty() {
        bail!(InvalidArgument, "pair {pair}: `align` names no positions, so nothing would be patched");
    }
    let mut out = Vec::new();
    for (a, b) in list {
        let place = (counted(*a, clean, "the clean prompt")?, counted(*b, corrupt, "the corrupted prompt")?);
        if out.iter().any(|(x, y)| *x == place.0 || *y == place.1) {
            bail!(InvalidArgument, "pair {pair}: `align` names a position of [{a}, {b}] twice");
        }
        out.push(place);
    }
    Ok(out)
}

/// A position from the front, of one that may count from the end.
pub(super) fn counted(position: i64, length: usize, whose: &str) -> Result<usize> {
    let at = if position < 0 { position + length as i64 } else { position };
    match usize::try_from(at).ok().filter(|at| *at < length) {
        Some(at) => Ok(at),
        None => bail!(InvalidArgument, "{whose} has no position {position}: it has {length} tokens"),
    }
}
