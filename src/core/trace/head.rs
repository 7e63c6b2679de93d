//! The logits after each row's own last token, without running the head over the positions before it.
//!
//! The head is often a quarter of a small model, and most metrics look at one position of it.

use super::edit::Edit;
use super::run::Run;
use super::{Batch, Change, Trace};
use crate::core::arch::tape::{Op, Producer, Program, Slot};
use crate::core::model::Target;
use crate::core::tensor::{self, Array};
use crate::error::Result;

impl Trace {
    /// The logits `[row, vocabulary]` after each row's own last token, lazily; what they depend on counts as not read,
    /// so that it can still be written. Where nothing after the last layer looks at other positions and nothing there was
    /// changed, the final norm and the head run for those positions only.
    pub fn last_logits(&self) -> Result<Array> {
        let batch = self.batch()?;
        let model = self.0.model.clone();
        let cut = model.sites.resolve("layers.-1.output").ok().filter(|site| {
            let slot = model.slot(*site);
            batch.is_tokens() && each_position_alone(&model.program, model.program.output, slot)
        });
        let untouched = |site: usize| {
            self.with(|run| {
                let place = run.model.uses.place(run.model.slot(site));
                let after = |e: &Edit| run.model.uses.place(run.model.slot(e.site)) > place;
                Ok(!run.edits.iter().any(after))
            })
        };
        let site = match cut {
            Some(site) if untouched(site)? => site,
            _ => {
                let logits = self.with(|run| {
                    let output = run.model.program.output;
                    run.value(output)
                })?;
                return tensor::squeeze(&at_the_end(&logits, batch.lengths())?, 1);
            }
        };
        let state = self.with(|run| {
            let slot = run.model.slot(site);
            run.value(slot)
        })?;
        let last: Vec<Vec<u32>> = batch.rows().iter().map(|row| row[row.len() - 1..].to_vec()).collect();
        let tail = Batch::new(last, u32::MAX as usize, None, 0)?;
        let mut run = Run::new(model.clone(), tail.into(), false, None);
        run.write(Edit::new(Target::Site(site), Change::Value(at_the_end(&state, batch.lengths())?)))?;
        tensor::squeeze(&run.value(model.program.output)?, 1)
    }
}

/// `[row, 1, feature]`: each row's value at its own last position of `[row, position, feature]`.
pub(crate) fn at_the_end(value: &Array, lengths: &[usize]) -> Result<Array> {
    let (rows, width, features) = (value.dim(0), value.dim(1), value.dim(2));
    if lengths.iter().all(|n| *n == width) {
        let stop = [rows as i32, width as i32, features as i32];
        return tensor::slice(value, &[0, width as i32 - 1, 0], &stop, &[1, 1, 1]);
    }
    let last: Vec<i32> = lengths.iter().map(|n| *n as i32 - 1).collect();
    let at = tensor::broadcast_to(&Array::from_slice(&last, &[rows, 1, 1])?, &[rows as i32, 1, features as i32])?;
    tensor::take_along(value, &at, 1)
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
