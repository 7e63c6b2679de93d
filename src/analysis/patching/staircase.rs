//! The quick way: nothing below the patched layer is run, nor anything before the patched position.
//!
//! The residual stream is all that a layer tells the next, and a causal model's positions never look ahead. So the run of
//! a patch at a layer and a position is: the unpatched run's residual stream there, patched, from that position on, with
//! the unpatched run's keys and values in front. Many such runs are rows of one batch: it climbs layer by layer, and at
//! every layer the rows whose patch is there join it.

use std::collections::BTreeMap;

use super::known::Facts;
use super::place::{Keep, Row, of_prompts, patched};
use super::sweep::Sweep;
use crate::core::arch::tape::Slot;
use crate::core::model::Stream;
use crate::core::tensor::{self, Array};
use crate::core::trace::{Batch, Cache, Trace, TraceOptions};
use crate::error::{Result, bail};

/// A step over one layer costs as much as so many more tokens: the weights are read once for all.
const STEP: usize = 27;

/// The unpatched run, from which rows climb.
pub(super) struct Staircase {
    stream: Stream,
    /// The residual stream before each layer, `[prompt, position, feature]`.
    inputs: Vec<Array>,
    cache: Cache,
}

impl Staircase {
    /// Reads what climbing needs from a run of the unpatched prompts that began with an empty cache, lazily; `root` is
    /// what changes the runs ahead of the layers. Nothing where the tape does not show that climbing gives the same.
    pub fn of(base: &Trace, root: Option<Slot>) -> Result<Option<Self>> {
        let Some(stream) = base.model().inner().stream(root) else { return Ok(None) };
        let inputs = stream.inputs.iter().map(|site| base.read(*site)).collect::<Result<Vec<_>>>()?;
        let batch = base.batch()?;
        let fits = |a: &Array| a.ndim() == 3 && a.dim(0) == batch.len() && a.dim(1) == batch.width();
        if !inputs.iter().all(fits) {
            return Ok(None);
        }
        let wanted: Vec<u32> = stream.remembers.iter().flatten().copied().collect();
        let cache = base.cache_of(&wanted)?;
        Ok(Some(Self { stream, inputs, cache }))
    }
}

/// Rows on their way up.
pub(super) struct Climb<'a> {
    pub sweep: &'a Sweep<'a>,
    pub way: &'a Staircase,
    pub facts: &'a [Option<Facts>],
}

impl Climb<'_> {
    /// Climbs with all rows, those that begin at one position or near it together.
    pub fn all(&self, rows: Vec<Row<'_>>, keep: &mut Keep<'_>) -> Result<()> {
        let mut by_cut: BTreeMap<usize, Vec<Row<'_>>> = BTreeMap::new();
        for row in rows {
            by_cut.entry(self.cut(&row)).or_default().push(row);
        }
        for (cut, mut rows) in self.grouped(by_cut) {
            rows.sort_by_key(|r| (r.cell.first, r.number, r.prompt));
            let longest = rows.iter().map(|r| self.sweep.prompts[r.prompt].len()).max().unwrap_or(0);
            for some in rows.chunks(self.sweep.rows_at_once(longest - cut)) {
                keep(some, self.climb(some, cut)?)?;
            }
        }
        Ok(())
    }

    /// The first position whose value the patch changes, as far as is known.
    fn cut(&self, row: &Row<'_>) -> usize {
        let length = self.sweep.prompts[row.prompt].len();
        let difference = &self.sweep.differences[row.prompt];
        let matters = |p: &usize| {
            let mut of_layers = (row.cell.first..=row.cell.last).filter_map(|l| self.facts[l]);
            of_layers.any(|f| f.matters(difference, *p, length))
        };
        row.positions().iter().copied().filter(matters).min().unwrap_or(length - 1)
    }

    /// Puts neighbouring cuts together where a step over every layer costs more than the tokens that are then run in vain.
    fn grouped<'r>(&self, by_cut: BTreeMap<usize, Vec<Row<'r>>>) -> Vec<(usize, Vec<Row<'r>>)> {
        let layers = self.way.inputs.len();
        let steps = |rows: &[Row<'_>]| rows.iter().map(|r| layers - r.cell.first).sum::<usize>();
        let cuts: Vec<(usize, usize)> = by_cut.iter().map(|(cut, rows)| (*cut, steps(rows))).collect();
        // best[i]: the least cost of the cuts from i on, and where the first group of them ends.
        let mut best = vec![(0, cuts.len()); cuts.len() + 1];
        for i in (0..cuts.len()).rev() {
            let (mut vain, mut least) = (0, (usize::MAX, i + 1));
            for j in i..cuts.len() {
                vain += cuts[j].1 * (cuts[j].0 - cuts[i].0);
                if vain > STEP * layers * (j - i + 1) {
                    break;
                }
                least = least.min((STEP * layers + vain + best[j + 1].0, j + 1));
            }
            best[i] = least;
        }
        let mut groups: Vec<(usize, Vec<Row<'r>>)> = Vec::new();
        let mut end = 0;
        for (i, (cut, rows)) in by_cut.into_iter().enumerate() {
            if i == end {
                end = best[i].1;
                groups.push((cut, rows));
            } else if let Some((_, group)) = groups.last_mut() {
                group.extend(rows);
            }
        }
        groups
    }

    /// Runs rows, ordered by layer, from position `cut` on. One evaluation.
    fn climb(&self, rows: &[Row<'_>], cut: usize) -> Result<Vec<f32>> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let prompts: Vec<usize> = rows.iter().map(|r| r.prompt).collect();
        let (mut state, mut climbing) = (None::<Array>, 0);
        let top = self.way.inputs.len() - 1;
        for layer in first.cell.first..=top {
            let joined = rows.partition_point(|r| r.cell.first <= layer);
            let width = rows[..joined].iter().map(|r| self.sweep.prompts[r.prompt].len()).max().unwrap_or(0) - cut;
            let state_there = state.take().map(|s| widened(&s, width)).transpose()?;
            let fresh = self.unpatched(&rows[climbing..joined], layer, cut, width)?;
            let input = tensor::concatenate(state_there.iter().chain(&fresh), 0)?;
            climbing = joined;
            if layer == top && self.patches_at_most_the_input(layer) && width > 1 && self.equally_long(rows) {
                return self.last_step(rows, &prompts, &input, cut);
            }
            let trace = self.from(rows[..joined].iter(), layer, cut, 0)?;
            self.patch(&trace, &rows[..joined], layer, cut, &input)?;
            if layer == top {
                return self.sweep.score.of(&trace, &prompts)?.to_vec::<f32>();
            }
            state = Some(trace.read(self.way.stream.outputs[layer])?);
        }
        bail!(Backend, "a row that begins above the last layer")
    }

    /// The residual stream of rows that join at a layer, `[row, width, feature]`; nothing where none does.
    fn unpatched(&self, rows: &[Row<'_>], layer: usize, cut: usize, width: usize) -> Result<Option<Array>> {
        if rows.is_empty() {
            return Ok(None);
        }
        let whole = of_prompts(&self.way.inputs[layer], rows)?;
        let (n, features) = (whole.dim(0) as i32, whole.dim(2) as i32);
        tensor::slice(&whole, &[0, cut as i32, 0], &[n, (cut + width) as i32, features], &[1, 1, 1]).map(Some)
    }

    /// A trace over the rows' tokens from `cut` on, for one layer of it: the keys and values of the others are not there.
    fn from<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row<'r>> + Clone,
        layer: usize,
        cut: usize,
        remember: usize,
    ) -> Result<Trace> {
        let tokens: Vec<Vec<u32>> = rows.clone().map(|r| self.sweep.prompts[r.prompt][cut..].to_vec()).collect();
        let mut options = TraceOptions::default();
        if cut > 0 {
            let which: Vec<usize> = rows.map(|r| r.prompt).collect();
            options = options.after(&self.way.cache.first(cut, &which, &self.way.stream.remembers[layer])?);
        } else if remember > 0 {
            options = options.after(&Cache::default());
        }
        let batch = Batch::new(tokens, self.sweep.model.vocab_size(), None, 0)?;
        self.sweep.model.trace_batch(batch, &options)
    }

    /// Puts the climbing state before a layer, and the layer's patches in their places.
    fn patch(&self, trace: &Trace, rows: &[Row<'_>], layer: usize, cut: usize, input: &Array) -> Result<()> {
        let (model, input_site) = (self.sweep.model.inner(), self.way.stream.inputs[layer]);
        let (Some(site), Some(value)) = (self.sweep.sites[layer], &self.sweep.values[layer]) else {
            return trace.begin_at(input_site, input);
        };
        let named = |e: crate::error::Error| e.context(model.slot_name(model.slot(site)));
        if site == input_site {
            let new = patched(input, model.layout(site), rows, layer, cut, value).map_err(named)?;
            return trace.begin_at(site, new.as_ref().unwrap_or(input));
        }
        trace.begin_at(input_site, input)?;
        let active = |r: &Row<'_>| (r.cell.first..=r.cell.last).contains(&layer);
        if !rows.iter().any(active) {
            return Ok(());
        }
        let old = trace.read(site)?;
        match patched(&old, model.layout(site), rows, layer, cut, value).map_err(named)? {
            Some(new) => trace.write(site, &new),
            None => Ok(()),
        }
    }

    fn patches_at_most_the_input(&self, layer: usize) -> bool {
        self.sweep.sites[layer].is_none_or(|site| site == self.way.stream.inputs[layer])
    }

    fn equally_long(&self, rows: &[Row<'_>]) -> bool {
        let length = |r: &Row<'_>| self.sweep.prompts[r.prompt].len();
        rows.iter().all(|r| length(r) == length(&rows[0]))
    }

    /// The last layer for the last position alone: of the others only keys and values are looked at.
    fn last_step(&self, rows: &[Row<'_>], prompts: &[usize], input: &Array, cut: usize) -> Result<Vec<f32>> {
        let layer = self.way.inputs.len() - 1;
        let whole = self.from(rows.iter(), layer, cut, 1)?;
        self.patch(&whole, rows, layer, cut, input)?;
        let own = &self.way.stream.remembers[layer];
        let state = whole.read(self.way.stream.inputs[layer])?;
        let last = self.sweep.prompts[rows[0].prompt].len() - 1;
        let each: Vec<usize> = (0..rows.len()).collect();
        let cache = whole.cache_of(own)?.first(last, &each, own)?;
        let tokens = rows.iter().map(|r| self.sweep.prompts[r.prompt][last..].to_vec()).collect();
        let batch = Batch::new(tokens, self.sweep.model.vocab_size(), None, 0)?;
        let step = self.sweep.model.trace_batch(batch, &TraceOptions::default().after(&cache))?;
        let width = state.dim(1) as i32;
        let stop = [state.dim(0) as i32, width, state.dim(2) as i32];
        step.begin_at(self.way.stream.inputs[layer], &tensor::slice(&state, &[0, width - 1, 0], &stop, &[1, 1, 1])?)?;
        self.sweep.score.of(&step, prompts)?.to_vec::<f32>()
    }
}

/// `[row, position, feature]` with padding at the end, as wide as the longest row.
fn widened(state: &Array, width: usize) -> Result<Array> {
    let (rows, own, features) = (state.dim(0), state.dim(1), state.dim(2));
    if own == width {
        return Ok(state.clone());
    }
    let rest = tensor::full(&[rows as i32, (width - own) as i32, features as i32], 0.0, state.dtype())?;
    tensor::concatenate([state, &rest], 1)
}
