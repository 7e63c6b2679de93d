//! Where the numbers of a value come from: a way through the tape that only moves them about is followed by sending
//! their numbers along it.
//!
//! Queries are a matrix's output cut into heads, but every architecture cuts differently: one matrix for queries, keys
//! and values, head by head or kind by kind, halves swapped, groups repeated. Instead of knowing these, a route runs the
//! same instructions on 0, 1, 2, …: what arrives says which row of the matrix each head's feature is.

use std::collections::HashMap;

use super::batch::Batch;
use super::kernels::{Surroundings, execute};
use crate::core::arch::tape::{Binary, Op, Operand, Producer, Slot, Special};
use crate::core::model::Inner;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail, err};

/// What a route went past that is no moving about, and is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// A rotation by position.
    pub rotated: bool,
    /// A norm.
    pub normed: bool,
    /// A constant factor.
    pub scaled: bool,
    /// A clipping.
    pub clipped: bool,
}

/// The numbers of a matrix's outputs, or of a value's features, in the places they arrived at.
pub(crate) struct Route {
    /// The instruction that multiplies by the matrix, where the route begins at one.
    pub linear: Option<u32>,
    /// `[1, …, feature]` as the value has it for one row and one position.
    pub shape: Vec<usize>,
    /// In row-major order.
    pub numbers: Vec<u32>,
    /// What was left out.
    pub passed: Passed,
}

/// Where a route begins.
enum From {
    /// At the outputs of a linear.
    Linear,
    /// At a value of a known shape.
    Value(Slot, Vec<usize>),
}

/// From the outputs of the one linear that `slot` is a rearrangement of.
pub(crate) fn from_linear(model: &Inner, slot: Slot) -> Result<Route> {
    Walk::new(model, From::Linear)?.follow(slot)
}

/// From a value of `shape` (one row, one position) to `slot`, which must be a rearrangement of it.
pub(crate) fn between(model: &Inner, from: Slot, shape: Vec<usize>, slot: Slot) -> Result<Route> {
    Walk::new(model, From::Value(model.program.source(from), shape))?.follow(slot)
}

struct Walk<'a> {
    model: &'a Inner,
    from: From,
    batch: Batch,
    linear: Option<u32>,
    passed: Passed,
    known: HashMap<Slot, Array>,
}

impl<'a> Walk<'a> {
    fn new(model: &'a Inner, from: From) -> Result<Self> {
        let batch = Batch::new(vec![vec![0]], 1, None, 0)?;
        Ok(Self { model, from, batch, linear: None, passed: Passed::default(), known: HashMap::new() })
    }

    fn follow(mut self, slot: Slot) -> Result<Route> {
        let value = self.value(slot)?;
        let numbers = tensor::cast(&value, Dtype::Uint32)?.to_vec::<u32>()?;
        Ok(Route { linear: self.linear, shape: value.dims(), numbers, passed: self.passed })
    }

    fn value(&mut self, slot: Slot) -> Result<Array> {
        let slot = self.model.program.source(slot);
        if let From::Value(from, shape) = &self.from
            && *from == slot
        {
            return numbered(shape);
        }
        if let Some(value) = self.known.get(&slot) {
            return Ok(value.clone());
        }
        let Producer::Instr(index) = self.model.program.origin(slot) else {
            bail!(Unsupported, "it comes from the model's input as it is")
        };
        let value = self.made(index, slot)?;
        self.known.insert(slot, value.clone());
        Ok(value)
    }

    fn made(&mut self, index: u32, slot: Slot) -> Result<Array> {
        let program = &self.model.program;
        let instr = &program.instrs[index as usize];
        match &instr.op {
            Op::Linear(w) if matches!(self.from, From::Linear) => {
                if self.linear.is_some_and(|l| l != index) {
                    bail!(Unsupported, "it is put together from several matrices ({} is one)", w.path);
                }
                self.linear = Some(index);
                let outputs = self.model.parameters.tensor(w.weight)?.dim(0);
                numbered(&[1, 1, outputs])
            }
            Op::Rope(_) => self.past(instr.inputs[0], |p| p.rotated = true),
            Op::RmsNorm { .. } | Op::LayerNorm { .. } => self.past(instr.inputs[0], |p| p.normed = true),
            Op::Clip { .. } => self.past(instr.inputs[0], |p| p.clipped = true),
            Op::Binary(Binary::Mul | Binary::Div, Operand::Slot(x), Operand::Number(_))
            | Op::Binary(Binary::Mul, Operand::Number(_), Operand::Slot(x)) => self.past(*x, |p| p.scaled = true),
            Op::ToF32 | Op::Like => self.value(instr.inputs[0]),
            Op::Cache => {
                let at = instr.outputs.iter().position(|o| *o == slot);
                let at = at.ok_or_else(|| err!(Backend, "slot {slot} is no output of its instruction"))?;
                self.value(instr.inputs[at])
            }
            op if moves(op) => {
                let inputs = instr.inputs.iter().map(|s| self.value(*s)).collect::<Result<Vec<_>>>()?;
                let at = instr.outputs.iter().position(|o| *o == slot).unwrap_or(0);
                let mut masks = Default::default();
                let mut around = Surroundings {
                    parameters: &self.model.parameters,
                    batch: &self.batch,
                    masks: &mut masks,
                    cache: None,
                    kept: None,
                };
                let made = execute(instr, index, &inputs.iter().collect::<Vec<_>>(), &mut around)?;
                made.into_iter().nth(at).ok_or_else(|| err!(Backend, "an output is missing from the tape"))
            }
            op => {
                let name = format!("{op:?}");
                let name = name.split(['(', ' ', '{']).next().unwrap_or_default();
                bail!(
                    Unsupported,
                    "{} (line {} of the description) does more than move its numbers about: {name}",
                    instr.path,
                    instr.line
                )
            }
        }
    }

    fn past(&mut self, slot: Slot, note: impl FnOnce(&mut Passed)) -> Result<Array> {
        note(&mut self.passed);
        self.value(slot)
    }
}

fn numbered(shape: &[usize]) -> Result<Array> {
    let n: usize = shape.iter().product();
    tensor::reshape(&tensor::arange(0, n as i64, Dtype::Int32)?, &shape.iter().map(|d| *d as i32).collect::<Vec<_>>())
}

/// Whether an operation only puts its inputs' numbers elsewhere, some of them perhaps several times or nowhere.
fn moves(op: &Op) -> bool {
    match op {
        Op::Heads { .. } | Op::PerHead { .. } | Op::Flip | Op::Merge => true,
        Op::Split { .. } | Op::Concat { .. } | Op::Stack { .. } | Op::Index(_) | Op::Unflatten { .. } => true,
        Op::Flatten { .. } | Op::Transpose { .. } | Op::Swap { .. } | Op::Repeat { .. } => true,
        Op::Expand { .. } | Op::Squeeze { .. } => true,
        Op::Special(s) => matches!(s, Special::BroadcastHeads { .. } | Special::Reshape { .. } | Special::Tile { .. }),
        _ => false,
    }
}
