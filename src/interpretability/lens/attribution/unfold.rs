//! A number that depends on a value linearly, told in terms of what that value was made of.
//!
//! A covector says how the number changes with each feature. It goes back along the tape: a sum hands it to both terms, a
//! factor scales it, a matrix turns it. A norm is taken as linear too: divided by the scale that it had in this run. What is
//! constant on the way (biases) is set aside. So the parts and the constants add up to the number, whatever the
//! architecture.

use std::collections::BTreeMap;

use crate::core::arch::tape::{Binary, Instr, Op, Operand, Producer, Program, Slot, TensorId, Unary};
use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Place, Trace, at_places};
use crate::error::{Result, bail};

/// What a number came apart into.
#[derive(Default)]
pub(super) struct Unfolded {
    /// Values with the covectors `[row, feature]` that they meet.
    pub parts: Vec<(Slot, Array)>,
    /// What is there whatever the values are, `[row]`, with the module it belongs to.
    pub constants: Vec<(String, Array)>,
}

/// A run at one position of each of its rows.
pub(super) struct Scene<'a> {
    pub model: &'a Model,
    pub trace: &'a Trace,
    pub places: &'a [Place],
}

/// Covectors that wait to be handed on, by the instruction that made their value: the latest goes first, so that it has
/// met all that it will.
type Waiting = BTreeMap<(usize, Slot), Array>;

impl Scene<'_> {
    pub fn program(&self) -> &Program {
        self.model.program()
    }

    /// The value of a slot at the places, `[row, feature]` in float32. Something shared by all rows and positions is
    /// `[1, feature]`.
    pub fn value(&self, slot: Slot) -> Result<Array> {
        let value = self.trace.value_of(slot)?;
        let value = match value.ndim() {
            3 => at_places(&value, self.places)?,
            // An embedding of positions, the same for every row.
            2 => {
                let at: Vec<i32> = self.places.iter().map(|(_, position)| *position as i32).collect();
                tensor::take(&value, &Array::from_slice(&at, &[at.len()])?, 0)?
            }
            1 => tensor::expand_dims(&value, 0)?,
            _ => bail!(Unsupported, "a value of shape {:?} in a residual stream", value.shape()),
        };
        tensor::cast(&value, Dtype::Float32)
    }

    /// What a value contributes: the covector times it, `[row]`.
    pub fn contribution(&self, slot: Slot, covector: &Array) -> Result<Array> {
        tensor::sum(&tensor::mul(covector, &self.value(slot)?)?, -1, false)
    }

    /// Takes a number apart as far as the slots where `stop` says so, and the values that no rule leads through.
    pub fn unfold(&self, start: Slot, covector: &Array, stop: &dyn Fn(Slot) -> bool) -> Result<Unfolded> {
        let mut found = Unfolded::default();
        let mut waiting = Waiting::new();
        self.push(&mut waiting, start, covector.clone())?;
        while let Some(((_, slot), covector)) = waiting.pop_last() {
            let instr = match self.program().origin(slot) {
                Producer::Instr(i) if !stop(self.program().source(slot)) => &self.program().instrs[i as usize],
                _ => {
                    found.parts.push((slot, covector));
                    continue;
                }
            };
            if !self.through(instr, &covector, &mut waiting, &mut found)? {
                found.parts.push((slot, covector));
            }
        }
        Ok(found)
    }

    fn push(&self, waiting: &mut Waiting, slot: Slot, covector: Array) -> Result<()> {
        let made = match self.program().origin(slot) {
            Producer::Instr(i) => i as usize + 1,
            _ => 0,
        };
        let sum = match waiting.remove(&(made, slot)) {
            Some(before) => tensor::add(&before, &covector)?,
            None => covector,
        };
        waiting.insert((made, slot), sum);
        Ok(())
    }

    /// Hands a covector to the inputs of an instruction; false where no rule says how.
    fn through(&self, instr: &Instr, c: &Array, waiting: &mut Waiting, found: &mut Unfolded) -> Result<bool> {
        let scaled = |factor: f64| tensor::mul(c, &tensor::weak(factor, c)?);
        match &instr.op {
            Op::Binary(Binary::Add, Operand::Slot(a), Operand::Slot(b)) => {
                self.push(waiting, *a, c.clone())?;
                self.push(waiting, *b, c.clone())?;
            }
            Op::Binary(Binary::Sub, Operand::Slot(a), Operand::Slot(b)) => {
                self.push(waiting, *a, c.clone())?;
                self.push(waiting, *b, tensor::neg(c)?)?;
            }
            Op::Binary(Binary::Mul, Operand::Slot(a), Operand::Number(n))
            | Op::Binary(Binary::Mul, Operand::Number(n), Operand::Slot(a)) => self.push(waiting, *a, scaled(*n)?)?,
            Op::Binary(Binary::Div, Operand::Slot(a), Operand::Number(n)) => {
                self.push(waiting, *a, scaled(1.0 / n)?)?;
            }
            // A learned gain.
            Op::Binary(Binary::Mul, Operand::Slot(a), Operand::Slot(b)) => {
                let (x, gain) = match (self.parameter(*a)?, self.parameter(*b)?) {
                    (_, Some(gain)) => (*a, gain),
                    (Some(gain), None) => (*b, gain),
                    (None, None) => return Ok(false),
                };
                self.push(waiting, x, tensor::mul(c, &gain)?)?;
            }
            Op::Unary(Unary::Neg) => self.push(waiting, instr.inputs[0], tensor::neg(c)?)?,
            Op::ToF32 | Op::Like => self.push(waiting, instr.inputs[0], c.clone())?,
            Op::RmsNorm { weight, eps, offset } => {
                let x = self.value(instr.inputs[0])?;
                let c = tensor::mul(&self.weighted(c, *weight, *offset)?, &scale(&x, *eps)?)?;
                self.push(waiting, instr.inputs[0], c)?;
            }
            Op::LayerNorm { weight, bias, eps, offset } => {
                if let Some(bias) = bias {
                    found.constants.push((instr.path.clone(), self.times(c, *bias)?));
                }
                let x = centred(&self.value(instr.inputs[0])?)?;
                let c = tensor::mul(&self.weighted(c, *weight, *offset)?, &scale(&x, *eps)?)?;
                self.push(waiting, instr.inputs[0], centred(&c)?)?;
            }
            Op::Linear(w) => {
                if let Some(bias) = w.bias {
                    found.constants.push((instr.path.clone(), self.times(c, bias)?));
                }
                let matrix = tensor::cast(&self.model.parameters().dense(w)?, Dtype::Float32)?;
                self.push(waiting, instr.inputs[0], tensor::matmul(c, &matrix)?)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A slot that is a tensor of the checkpoint, one number or one a feature.
    pub fn parameter(&self, slot: Slot) -> Result<Option<Array>> {
        let Producer::Instr(i) = self.program().origin(slot) else { return Ok(None) };
        let Op::Param(id) = self.program().instrs[i as usize].op else { return Ok(None) };
        let value = self.model.parameters().tensor(id)?;
        if value.ndim() > 1 && value.size() > 1 {
            return Ok(None);
        }
        tensor::cast(&tensor::reshape(value, &[-1])?, Dtype::Float32).map(Some)
    }

    /// A covector behind a norm's weight.
    fn weighted(&self, c: &Array, weight: Option<TensorId>, offset: f64) -> Result<Array> {
        let Some(id) = weight else { return Ok(c.clone()) };
        let w = tensor::cast(self.model.parameters().tensor(id)?, Dtype::Float32)?;
        tensor::mul(c, &tensor::add(&w, &tensor::weak(offset, &w)?)?)
    }

    /// A covector times a tensor of the checkpoint, `[row]`.
    pub fn times(&self, c: &Array, id: TensorId) -> Result<Array> {
        let b = tensor::cast(self.model.parameters().tensor(id)?, Dtype::Float32)?;
        tensor::sum(&tensor::mul(c, &b)?, -1, false)
    }
}

/// One over the root mean square.
fn scale(x: &Array, eps: f64) -> Result<Array> {
    let square = tensor::mean(&tensor::square(x)?, -1, true)?;
    let root = tensor::sqrt(&tensor::add(&square, &tensor::weak(eps, x)?)?)?;
    tensor::div(&tensor::weak(1.0, x)?, &root)
}

/// Less its mean.
fn centred(x: &Array) -> Result<Array> {
    tensor::sub(x, &tensor::mean(x, -1, true)?)
}
