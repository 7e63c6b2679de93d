//! What comes after the last layer, alone: final norm, head, soft-caps.
//!
//! The head is often a quarter of a small model, and most metrics look at one position of it. Lenses give it states that
//! no last layer made.

use super::run::Run;
use super::{Batch, Trace};
use crate::core::arch::tape::{Op, Producer, Program, Slot};
use crate::core::model::{Inner, Model, SiteId};
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail};

const LAST: &str = "layers.-1.output";

/// Final norm and head, for states `[row, position, feature]` of one number of rows and positions. They stand where the
/// last layer's output would; positions do not see each other.
pub(crate) struct Head(Trace);

impl Head {
    /// For so many rows and positions. An error where what follows the last layer looks at more than one position, or
    /// where that layer's output is not one state a position.
    pub fn new(model: &Model, rows: usize, positions: usize) -> Result<Self> {
        let inner = model.inner();
        let Some(site) = cut(inner) else {
            bail!(
                Unsupported,
                "'{}': what follows its last layer is not a norm and a head of one state a position, so states of other \
                 layers cannot be read through it",
                inner.name
            );
        };
        // Its ids are looked at by nobody: everything is read after the layers.
        let batch = Batch::new(vec![vec![0; positions.max(1)]; rows.max(1)], u32::MAX as usize, None, 0)?;
        let trace = Trace::wrap(inner.clone(), false, Run::new(inner.clone(), batch.into(), false, None));
        let state = trace.with(|run| run.value(run.model.slot(site)))?;
        if state.ndim() != 3 {
            bail!(
                Unsupported,
                "'{}': its last layer gives an array of shape {:?}, not one state a position",
                inner.name,
                state.shape()
            );
        }
        Ok(Self(trace))
    }

    /// A trace of these states, to be read after the last layer only.
    pub fn trace(&self, states: &Array) -> Result<Trace> {
        let fork = self.0.fork()?;
        fork.set(LAST, states)?;
        Ok(fork)
    }

    /// Their logits `[row, position, vocabulary]`, lazily.
    pub fn logits(&self, states: &Array) -> Result<Array> {
        self.trace(states)?.output()
    }
}

/// The last layer's output, where what is made of it is made position by position.
fn cut(model: &Inner) -> Option<SiteId> {
    let site = model.sites.resolve(LAST).ok()?;
    (model.program.takes_tokens() && each_position_alone(&model.program, model.program.output, model.slot(site)))
        .then_some(site)
}

impl Model {
    /// What the model would say of states `[.., feature]` if its last layer had made them: final norm, head, soft-caps.
    /// Gives logits `[.., vocabulary]`, lazily. All at once: the caller sees to memory.
    pub fn unembed(&self, states: &Array) -> Result<Array> {
        let mut shape = states.shape().to_vec();
        let Some(width) = shape.pop().filter(|w| *w > 0) else {
            bail!(Shape, "states of shape {:?}: the last axis must be the model's features", states.shape());
        };
        let n = states.size() as i32 / width;
        let flat = tensor::reshape(states, &[1, n, width])?;
        let logits = Head::new(self, 1, n as usize)?.logits(&flat)?;
        shape.push(logits.dim(2) as i32);
        tensor::reshape(&logits, &shape)
    }
}

impl Trace {
    /// [`Trace::last_logits`] for one who acts on them: from now on what they depend on counts as read.
    pub(crate) fn drawn_from(&self) -> Result<Array> {
        let batch = self.batch()?;
        let logits = if batch.width() > 1 { self.last_logits()? } else { tensor::squeeze(&self.output()?, 1)? };
        self.with(|run| {
            run.mark_read(run.model.program.output);
            Ok(())
        })?;
        Ok(logits)
    }

    /// The logits `[row, vocabulary]` after each row's own last token, lazily; what they depend on counts as not read,
    /// so that it can still be written. Where nothing after the last layer looks at other positions and nothing there was
    /// changed, the final norm and the head run for those positions only.
    pub fn last_logits(&self) -> Result<Array> {
        let batch = self.batch()?;
        let last: Vec<Place> = batch.lengths().iter().enumerate().map(|(row, n)| (row, n - 1)).collect();
        self.logits_at(&last)
    }

    /// The logits `[place, vocabulary]` after tokens given as (row, position), otherwise like [`Trace::last_logits`]. The
    /// caller has checked the places.
    pub(crate) fn logits_at(&self, places: &[Place]) -> Result<Array> {
        let model = self.0.model.clone();
        let site = match cut(&model) {
            Some(site) if self.is_plain_after_layers()? => site,
            _ => return at_places(&self.value_of(model.program.output)?, places),
        };
        let states = at_places(&self.value_of(model.slot(site))?, places)?;
        let logits = Head::new(&self.model(), 1, places.len())?.logits(&tensor::expand_dims(&states, 0)?)?;
        tensor::squeeze(&logits, 0)
    }

    /// Whether nothing behind the last layer was changed.
    pub(crate) fn is_plain_after_layers(&self) -> Result<bool> {
        self.with(|run| {
            let Ok(last) = run.model.sites.resolve(LAST) else { return Ok(run.edits.is_empty()) };
            let place = run.model.uses.place(run.model.slot(last));
            Ok(!run.edits.iter().any(|e| run.model.uses.place(run.model.slot(e.site)) > place))
        })
    }

    /// The value of a slot, lazily, without handing it out: later writes may still change it.
    pub(crate) fn value_of(&self, slot: Slot) -> Result<Array> {
        self.with(|run| run.value(slot))
    }
}

/// A row of a batch and a position in it.
pub(crate) type Place = (usize, usize);

/// `[place, feature]` of `[row, position, feature]`. The caller has checked the places.
pub(crate) fn at_places(value: &Array, places: &[Place]) -> Result<Array> {
    let (rows, width, features) = (value.dim(0), value.dim(1), value.dim(2) as i32);
    let first = places.first().copied().unwrap_or_default();
    let column = places.len() == rows && places.iter().enumerate().all(|(i, p)| *p == (i, first.1));
    let run = places.iter().enumerate().all(|(i, p)| *p == (first.0, first.1 + i));
    let cut = |start: [usize; 2], stop: [usize; 2], axis| {
        let [start, stop] = [start, stop].map(|[a, b]| [a as i32, b as i32]);
        let part = tensor::slice(value, &[start[0], start[1], 0], &[stop[0], stop[1], features], &[1, 1, 1])?;
        tensor::squeeze(&part, axis)
    };
    if column {
        return cut([0, first.1], [rows, first.1 + 1], 1);
    }
    if run {
        return cut([first.0, first.1], [first.0 + 1, first.1 + places.len()], 0);
    }
    let flat: Vec<i32> = places.iter().map(|(row, position)| (row * width + position) as i32).collect();
    tensor::take(&tensor::flatten(value, 0, 1)?, &Array::from_slice(&flat, &[flat.len()])?, 0)
}

/// `[row, 1, feature]`: each row's value at its own last position of `[row, position, feature]`; at its first where it has
/// none.
pub(crate) fn at_the_end(value: &Array, lengths: &[usize]) -> Result<Array> {
    let last: Vec<Place> = lengths.iter().enumerate().map(|(row, n)| (row, n.saturating_sub(1))).collect();
    tensor::expand_dims(&at_places(value, &last)?, 1)
}

/// Whether `slot` is made from `cut` and weights alone, position by position.
fn each_position_alone(program: &Program, slot: Slot, cut: Slot) -> bool {
    if program.source(slot) == program.source(cut) {
        return true;
    }
    let Producer::Instr(i) = program.origin(slot) else { return false };
    let instr = &program.instrs[i as usize];
    let alone = match &instr.op {
        Op::Linear(_) | Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Unary(_) | Op::Binary(..) => true,
        Op::Softcap(_) | Op::Clip { .. } | Op::ToF32 | Op::Like => true,
        Op::Softmax { axis } | Op::Reduce { axis, .. } => *axis == -1,
        _ => false,
    };
    alone && !instr.inputs.is_empty() && instr.inputs.iter().all(|s| each_position_alone(program, *s, cut))
}
