//! Many patches of one run, each measured: what the tape knows is looked up, the rest is run one way or the other.

use super::cells::Cell;
use super::difference::Difference;
use super::known::{Facts, Known};
use super::measure::Score;
use super::options::Sharing;
use super::place::Row;
use super::staircase::{Climb, Staircase};
use crate::core::arch::tape::Slot;
use crate::core::model::{Model, SiteId};
use crate::core::tensor::Array;
use crate::core::trace::{Cache, Trace};
use crate::error::{Result, bail};
use crate::utils::{Progress, tell};

/// What is patched, and what is known of the runs that take part.
pub(super) struct Sweep<'a> {
    pub model: &'a Model,
    /// Begins the run that is patched.
    pub start: &'a dyn Fn(Option<Cache>) -> Result<Trace>,
    /// Its quick way, where there is one.
    pub staircase: Option<Staircase>,
    /// Tokens of its rows: the prompts.
    pub prompts: &'a [Vec<u32>],
    /// Site by layer.
    pub sites: Vec<Option<SiteId>>,
    /// What is put there, by layer: a row a prompt, or one for all, its positions those of the patched run.
    pub values: Vec<Option<Array>>,
    /// Where both runs can differ, by prompt.
    pub differences: Vec<Difference>,
    pub score: &'a Score,
    /// What the run gives without a patch, by prompt.
    pub unpatched: &'a [f32],
    /// What the run gives that the values come from, by prompt.
    pub restored: &'a [f32],
    /// Nothing changes the runs besides.
    pub plain: bool,
    pub tokens_at_once: usize,
}

/// What a sweep found.
pub(super) struct Swept {
    /// By cell, then by prompt.
    pub scores: Vec<f32>,
    /// Runs that were made; of the others the tape told the outcome.
    pub runs: usize,
}

impl Sweep<'_> {
    /// The score of every cell for every prompt. `name` tells people which cell it is.
    pub fn run(&self, cells: &[Cell], name: &dyn Fn(usize) -> String, progress: &mut Progress<'_>) -> Result<Swept> {
        let n = self.prompts.len();
        let facts: Vec<Option<Facts>> =
            self.sites.iter().map(|site| site.map(|site| Facts::of(self.model, site))).collect();
        let mut scores = vec![f32::NAN; cells.len() * n];
        let mut open = Vec::new();
        for (number, cell) in cells.iter().enumerate() {
            for prompt in 0..n {
                let row = Row { cell, number, prompt };
                match self.known(&facts, &row) {
                    Known::Unpatched => scores[number * n + prompt] = self.unpatched[prompt],
                    Known::Restored => scores[number * n + prompt] = self.restored[prompt],
                    Known::Open => open.push(row),
                }
            }
        }
        let (runs, total) = (open.len(), (cells.len() * n) as u64);
        let mut done = total - runs as u64;
        tell(progress, done, total)?;
        let mut keep = |rows: &[Row<'_>], numbers: Vec<f32>| {
            for (row, number) in rows.iter().zip(numbers) {
                if number.is_nan() {
                    bail!(
                        InvalidArgument,
                        "the metric is not a number (NaN) with {} patched (prompt {}): check the prompts, the \
                         interventions and the metric itself",
                        name(row.number),
                        row.prompt
                    );
                }
                let place = &mut scores[row.number * n + row.prompt];
                // A cell runs for all its prompts; what the tape told stands.
                *place = if place.is_nan() { number } else { *place };
            }
            done += rows.len() as u64;
            tell(progress, done.min(total), total)
        };
        match &self.staircase {
            _ if runs == 0 => {}
            Some(way) => Climb { sweep: self, way, facts: &facts }.all(open, &mut keep)?,
            None => self.fork_all(open, &mut keep)?,
        }
        Ok(Swept { scores, runs })
    }

    fn known(&self, facts: &[Option<Facts>], row: &Row<'_>) -> Known {
        if !self.plain || self.score.sees_all() {
            return Known::Open;
        }
        let (difference, length) = (&self.differences[row.prompt], self.prompts[row.prompt].len());
        let whole = row.cell.heads.is_none() && row.cell.neurons.is_none();
        let mut of_each = (row.cell.first..=row.cell.last)
            .filter_map(|layer| facts[layer].map(|f| f.know(difference, row.positions(), length, whole)));
        match row.cell.first == row.cell.last {
            true => of_each.next().unwrap_or(Known::Unpatched),
            // Several layers together: known only where none of them matters.
            false if of_each.all(|k| k == Known::Unpatched) => Known::Unpatched,
            false => Known::Open,
        }
    }

    /// How many rows of so many tokens run at once: the logits of all must fit too.
    pub(super) fn rows_at_once(&self, tokens: usize) -> usize {
        /// Numbers, 256 MiB of them.
        const LOGITS: usize = 1 << 26;
        let vocabulary = self.model.vocab_size().max(1);
        let looked_at = if self.score.sees_all() { tokens } else { 1 };
        (self.tokens_at_once / tokens.max(1)).min(LOGITS / vocabulary / looked_at.max(1)).max(1)
    }
}

/// Begins a run that is to be patched, with its quick way where it is wanted and the tape allows it. Nothing is computed.
pub(super) fn begin(
    model: &Model,
    start: &dyn Fn(Option<Cache>) -> Result<Trace>,
    score_sees_all: bool,
    plain: bool,
    root: Option<Slot>,
    sharing: Sharing,
) -> Result<(Trace, Option<Staircase>)> {
    let why = if score_sees_all {
        "a metric that is a function may look at all positions of a run"
    } else if !plain {
        "the runs are under interventions"
    } else if model.inner().stream(root).is_none() {
        "the layers tell each other more than their residual stream, or remember more than keys and values"
    } else if sharing != Sharing::Forks {
        let base = start(Some(Cache::default()))?;
        match Staircase::of(&base, root)? {
            Some(way) => return Ok((base, Some(way))),
            None => "the residual stream has other axes than row, position and feature",
        }
    } else {
        ""
    };
    match sharing {
        Sharing::Staircase => bail!(Unsupported, "the staircase cannot be used: {why}; leave `sharing` at 'auto'"),
        _ => Ok((start(None)?, None)),
    }
}
