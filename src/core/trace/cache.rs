//! What a model remembers between one trace and the next: keys and values, convolution tails, recurrent states.
//!
//! A cache is a value. Each trace that was started with one gives the next; the one before stays as it was, so going
//! back, forking and trying several continuations need no copies. Rows of a padded batch keep their own lengths: what
//! was padding in an earlier step is never seen by a later one, and each row counts its positions on its own.

use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use crate::core::model::Inner;
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail};

/// What one instruction remembers.
pub(super) type State = SmallVec<[Array; 2]>;

/// Columns that one step added to every row, of which each row's own are the first ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub width: usize,
    pub lengths: Vec<usize>,
}

impl Segment {
    /// Whether the columns of both are one segment: in each row the first is full, or the second has nothing.
    fn goes_on_with(&self, next: &Segment) -> bool {
        self.lengths.iter().zip(&next.lengths).all(|(own, more)| *own == self.width || *more == 0)
    }

    fn append(&mut self, next: &Segment) {
        self.width += next.width;
        self.lengths.iter_mut().zip(&next.lengths).for_each(|(own, more)| *own += more);
    }
}

/// The state of a model after some tokens. [`Cache::default`] has seen none.
#[derive(Clone, Default)]
pub struct Cache {
    model: Option<Weak<Inner>>,
    segments: Arc<Vec<Segment>>,
    states: Arc<Vec<Option<State>>>,
}

impl Cache {
    pub(super) fn after(&self, model: &Arc<Inner>, segment: Segment, states: Vec<Option<State>>) -> Self {
        let mut segments = self.segments.as_ref().clone();
        match segments.last_mut() {
            // A long generation is a prompt and one segment of steps, not a segment a step.
            Some(last) if last.goes_on_with(&segment) => last.append(&segment),
            _ => segments.push(segment),
        }
        Self { model: Some(Arc::downgrade(model)), segments: Arc::new(segments), states: Arc::new(states) }
    }

    /// One step of rows of these lengths, with what each instruction kept; for the tests of single operations.
    #[cfg(test)]
    pub(super) fn of_states(lengths: &[usize], states: Vec<Option<State>>) -> Self {
        let segment = Segment { width: lengths.iter().copied().max().unwrap_or(0), lengths: lengths.to_vec() };
        Self { model: None, segments: Arc::new(vec![segment]), states: Arc::new(states) }
    }

    /// Whether it has seen no tokens yet.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Tokens each row has seen; empty when it has seen none.
    pub fn lengths(&self) -> Vec<usize> {
        let rows = self.segments.first().map_or(0, |s| s.lengths.len());
        (0..rows).map(|r| self.segments.iter().map(|s| s.lengths[r]).sum()).collect()
    }

    /// Bytes that its arrays hold, or will hold once they are computed.
    pub fn byte_size(&self) -> usize {
        self.arrays().map(Array::byte_size).sum()
    }

    /// Computes what it remembers, so that the graph behind it can be freed.
    pub fn eval(&self) -> Result<()> {
        Array::eval_all(self.arrays())
    }

    /// Everything that it remembers.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.states.iter().flatten().flatten()
    }

    pub(crate) fn segments(&self) -> &Arc<Vec<Segment>> {
        &self.segments
    }

    /// What instruction `index` remembers.
    pub(super) fn state(&self, index: u32) -> Option<&[Array]> {
        self.states.get(index as usize)?.as_deref()
    }

    /// Refuses a cache of another model.
    pub(super) fn check(&self, model: &Arc<Inner>) -> Result<()> {
        match &self.model {
            Some(own) if !std::ptr::eq(own.as_ptr(), Arc::as_ptr(model)) => {
                bail!(InvalidArgument, "the cache was made by another model: start '{}' with an empty one", model.name)
            }
            _ => Ok(()),
        }
    }

    /// Keys and values of the first `tokens` tokens of chosen rows, which may be the same one many times. What
    /// instructions outside `wanted` remember is left out, so that only those may run after it. An error where something
    /// else than keys and values is remembered, or where a row is shorter.
    pub(crate) fn first(&self, tokens: usize, rows: &[usize], wanted: &[u32]) -> Result<Self> {
        let width: usize = self.segments.iter().map(|s| s.width).sum();
        let whole = |s: &Segment| rows.iter().all(|r| s.lengths[*r] == s.width);
        let short = self.segments.iter().enumerate().any(|(i, s)| match self.segments.len() {
            1 => rows.iter().any(|r| s.lengths[*r] < tokens),
            n => i + 1 < n && !whole(s),
        });
        if short || tokens > width {
            bail!(InvalidArgument, "the cache has rows of fewer than {tokens} tokens");
        }
        let which: Vec<u32> = rows.iter().map(|r| *r as u32).collect();
        let which = Array::from_slice(&which, &[rows.len()])?;
        let mut states = vec![None; self.states.len()];
        for i in wanted {
            let Some(Some(state)) = self.states.get(*i as usize) else { continue };
            let cut = |a: &Array| {
                if a.ndim() < 3 || a.dim(2) != width {
                    bail!(Unsupported, "a state of shape {:?} cannot be cut to its first tokens", a.shape());
                }
                let mut stop = a.shape().to_vec();
                stop[2] = tokens as i32;
                let part = tensor::slice(a, &vec![0; a.ndim()], &stop, &vec![1; a.ndim()])?;
                tensor::take(&part, &which, 0)
            };
            states[*i as usize] = Some(state.iter().map(cut).collect::<Result<State>>()?);
        }
        let segment = Segment { width: tokens, lengths: vec![tokens; rows.len()] };
        Ok(Self { model: self.model.clone(), segments: Arc::new(vec![segment]), states: Arc::new(states) })
    }

    /// Each row `n` times over.
    pub(super) fn repeated(&self, n: usize) -> Result<Self> {
        let rows = self.segments.first().map_or(0, |s| s.lengths.len());
        let repeat = |a: &Array| {
            if a.ndim() == 0 || a.dim(0) != rows {
                return Ok(a.clone());
            }
            tensor::concatenate(std::iter::repeat_n(a, n), 0)
        };
        let states = self.states.iter().map(|s| s.as_ref().map(|s| s.iter().map(repeat).collect()).transpose());
        let states = states.collect::<Result<Vec<Option<State>>>>()?;
        let segments = self.segments.iter().map(|s| Segment { width: s.width, lengths: s.lengths.repeat(n) }).collect();
        Ok(Self { model: self.model.clone(), segments: Arc::new(segments), states: Arc::new(states) })
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("lengths", &self.lengths()).field("bytes", &self.byte_size()).finish()
    }
}
