//! What attention adds, head by head; what an MLP adds, neuron by neuron.

use super::unfold::Scene;
use crate::core::arch::tape::{Op, Producer, Slot, Weights};
use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::Result;

/// The contributions of one layer's units, `[row, unit]`.
pub(super) struct Units {
    pub layer: usize,
    pub values: Array,
}

/// Where the units of a layer stand.
pub(super) enum Unit {
    Head,
    Neuron,
}

impl Unit {
    /// Their site in a layer.
    fn site(&self, layer: usize) -> String {
        match self {
            Unit::Head => format!("layers.{layer}.attn.z"),
            Unit::Neuron => format!("layers.{layer}.mlp.act"),
        }
    }
}

impl Scene<'_> {
    /// Takes apart what `slot` contributes through `covector`, where it is a projection of the units, norms and factors
    /// behind the projection included. Nothing where it is made otherwise (a mixture of experts, a recurrence).
    pub fn split(&self, unit: &Unit, layer: usize, slot: Slot, covector: &Array) -> Result<Option<Units>> {
        let Some(source) = slot_of(self.model, &unit.site(layer)) else { return Ok(None) };
        let projection = |s: Slot| self.linear(s).is_some();
        let mut sum: Option<Array> = None;
        for (slot, c) in self.unfold(slot, covector, &projection)?.parts {
            let Some((w, input)) = self.linear(slot) else { continue };
            if !self.made_of(input, source, 8) {
                continue;
            }
            let matrix = tensor::cast(&self.model.parameters().dense(w)?, Dtype::Float32)?;
            let each = tensor::mul(&tensor::matmul(&c, &matrix)?, &self.value(input)?)?;
            let values = match unit {
                Unit::Neuron => each,
                Unit::Head => {
                    let z = self.trace.value_of(source)?;
                    let (heads, width) = (z.dim(1), z.dim(-1));
                    if z.ndim() != 4 || heads * width != each.dim(1) {
                        return Ok(None);
                    }
                    tensor::sum(&tensor::unflatten(&each, 1, &[heads as i32, width as i32])?, -1, false)?
                }
            };
            sum = Some(match sum {
                Some(before) => tensor::add(&before, &values)?,
                None => values,
            });
        }
        Ok(sum.map(|values| Units { layer, values }))
    }

    /// The matrix that makes a slot, and what it multiplies.
    fn linear(&self, slot: Slot) -> Option<(&Weights, Slot)> {
        let Producer::Instr(i) = self.program().origin(slot) else { return None };
        let instr = &self.program().instrs[i as usize];
        match &instr.op {
            Op::Linear(w) => Some((w, instr.inputs[0])),
            _ => None,
        }
    }

    /// Whether a value is another one feature by feature: merged, normalised, gated, but not mixed.
    fn made_of(&self, slot: Slot, source: Slot, steps: usize) -> bool {
        let program = self.program();
        if program.source(slot) == program.source(source) {
            return true;
        }
        let Producer::Instr(i) = program.origin(slot) else { return false };
        let instr = &program.instrs[i as usize];
        let keeps = matches!(
            instr.op,
            Op::Merge
                | Op::Flip
                | Op::Flatten { .. }
                | Op::RmsNorm { .. }
                | Op::LayerNorm { .. }
                | Op::Binary(..)
                | Op::ToF32
                | Op::Like
        );
        keeps && steps > 0 && instr.inputs.iter().any(|s| self.made_of(*s, source, steps - 1))
    }
}

/// The slot of a site, where there is one.
pub(super) fn slot_of(model: &Model, name: &str) -> Option<Slot> {
    let site = model.sites().resolve(name).ok()?;
    Some(model.program().hooks[site].1.slot)
}
