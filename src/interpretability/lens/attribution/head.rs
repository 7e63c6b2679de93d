//! From a logit back to the final residual stream.

use super::unfold::{Scene, Unfolded};
use crate::core::arch::tape::{Binary, Op, Operand, Producer, Program, Slot, Weights};
use crate::core::model::{Model, SiteId};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Head, Trace};
use crate::error::{Result, err};

/// The tokens whose logit is told apart, a row each: the logit of the first less that of the second, where there is one.
pub(super) struct Target {
    pub answer: Vec<u32>,
    pub wrong: Option<Vec<u32>>,
}

/// The logits before a soft-cap, and the cap.
pub(super) struct Capped {
    pub slot: Slot,
    pub cap: Option<f64>,
}

/// Looks for a soft-cap at the end of the tape.
pub(super) fn before_cap(program: &Program) -> Capped {
    let mut slot = program.output;
    while let Producer::Instr(i) = program.origin(slot) {
        let instr = &program.instrs[i as usize];
        match instr.op {
            Op::Softcap(cap) => return Capped { slot: instr.inputs[0], cap: Some(cap) },
            Op::ToF32 | Op::Like => slot = instr.inputs[0],
            _ => break,
        }
    }
    Capped { slot: program.output, cap: None }
}

/// The last layer's output.
pub(super) fn residual(model: &Model) -> Result<SiteId> {
    model.sites().resolve("layers.-1.output").map_err(|e| e.context("direct logit attribution"))
}

impl Target {
    /// The number that is taken apart, `[row]`, of logits `[row, vocabulary]`.
    pub fn of(&self, logits: &Array) -> Result<Array> {
        let logits = tensor::cast(logits, Dtype::Float32)?;
        let pick = |ids: &[u32]| {
            let at = Array::from_slice(ids, &[ids.len(), 1])?;
            tensor::squeeze(&tensor::take_along(&logits, &at, -1)?, 1)
        };
        let answer = pick(&self.answer)?;
        self.wrong.as_ref().map_or(Ok(answer.clone()), |wrong| tensor::sub(&answer, &pick(wrong)?))
    }

    /// Rows of the head's matrix, `[row, feature]`: how the number changes with what the head is given.
    fn rows_of(&self, model: &Model, w: &Weights) -> Result<Array> {
        let pick = |ids: &[u32]| {
            let rows = model.parameters().embed(w, &Array::from_slice(ids, &[ids.len()])?)?;
            tensor::cast(&rows, Dtype::Float32)
        };
        let answer = pick(&self.answer)?;
        self.wrong.as_ref().map_or(Ok(answer.clone()), |wrong| tensor::sub(&answer, &pick(wrong)?))
    }

    fn bias(&self, model: &Model, bias: u32) -> Result<Array> {
        let b = tensor::cast(model.parameters().tensor(bias)?, Dtype::Float32)?;
        let pick = |ids: &[u32]| tensor::take(&b, &Array::from_slice(ids, &[ids.len()])?, 0);
        let answer = pick(&self.answer)?;
        self.wrong.as_ref().map_or(Ok(answer.clone()), |wrong| tensor::sub(&answer, &pick(wrong)?))
    }

    /// The covector of the number at the final residual stream, norms frozen.
    pub fn frozen(&self, scene: &Scene<'_>, logits: Slot) -> Result<(Array, Vec<(String, Array)>)> {
        let program = scene.program();
        let (mut slot, mut factor) = (logits, Array::scalar(1.0, Dtype::Float32)?);
        let number = |n: f64| Array::scalar(n, Dtype::Float32);
        let mut constants = Vec::new();
        let rows = loop {
            let Producer::Instr(i) = program.origin(slot) else { return Err(unfit(program, slot)) };
            let instr = &program.instrs[i as usize];
            match &instr.op {
                Op::ToF32 | Op::Like => slot = instr.inputs[0],
                Op::Binary(Binary::Mul, Operand::Slot(a), Operand::Number(n))
                | Op::Binary(Binary::Mul, Operand::Number(n), Operand::Slot(a)) => {
                    (slot, factor) = (*a, tensor::mul(&factor, &number(*n)?)?);
                }
                Op::Binary(Binary::Div, Operand::Slot(a), Operand::Number(n)) => {
                    (slot, factor) = (*a, tensor::div(&factor, &number(*n)?)?);
                }
                Op::Binary(Binary::Mul, Operand::Slot(a), Operand::Slot(b)) => match scene.parameter(*b)? {
                    Some(gain) if gain.size() == 1 => (slot, factor) = (*a, tensor::mul(&factor, &gain)?),
                    _ => return Err(unfit(program, slot)),
                },
                Op::Linear(w) => {
                    let by = |a: Array| tensor::mul(&a, &factor);
                    if let Some(bias) = w.bias {
                        constants.push((instr.path.clone(), by(self.bias(scene.model, bias)?)?));
                    }
                    slot = instr.inputs[0];
                    break by(self.rows_of(scene.model, w)?)?;
                }
                _ => return Err(unfit(program, slot)),
            }
        };
        let last = program.source(program.hooks[residual(scene.model)?].1.slot);
        let Unfolded { parts, constants: more } = scene.unfold(slot, &rows, &|s| s == last)?;
        constants.extend(more);
        match parts.as_slice() {
            [(slot, covector)] if program.source(*slot) == last => Ok((covector.clone(), constants)),
            parts => {
                let odd = parts.iter().find(|(slot, _)| program.source(*slot) != last);
                Err(unfit(program, odd.map_or(slot, |(slot, _)| *slot)))
            }
        }
    }

    /// The gradient of the number at the final residual stream `[row, feature]`.
    pub fn linearised(&self, model: &Model, states: &Array, logits: Slot) -> Result<Array> {
        let rows = self.answer.len();
        let trace = Head::new(model, rows, 1)?.trace(&tensor::expand_dims(states, 1)?)?;
        let number = |t: &Trace| self.of(&tensor::squeeze(&t.value_of(logits)?, 1)?);
        let gradient = trace.gradients(&["layers.-1.output"], number)?.gradients.remove(0);
        tensor::cast(&tensor::squeeze(&gradient, 1)?, Dtype::Float32)
    }
}

fn unfit(program: &Program, slot: Slot) -> crate::error::Error {
    let (path, line) = match program.origin(slot) {
        Producer::Instr(i) => (program.instrs[i as usize].path.as_str(), program.instrs[i as usize].line),
        _ => ("an input", 0),
    };
    err!(
        Unsupported,
        "between the last layer and the logits there is more than norms, matrices and factors ('{path}', line {line} of \
         the description), so the logit is no sum of what layers add: linearise it (norm \"linearised\")"
    )
}
