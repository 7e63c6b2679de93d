//! The plain forward: the same instructions straight through, with nothing to look after.

use smallvec::SmallVec;

use super::attention::Masks;
use super::batch::Batch;
use super::kernels::{Surroundings, execute};
use crate::core::arch::tape::{Producer, Program, Slot};
use crate::core::model::Inner;
use crate::core::tensor::{Array, gate};
use crate::error::{Result, err};

/// The instructions that the output needs, with what each may free after it. Worked out once at load.
pub struct Straight {
    steps: Vec<(u32, SmallVec<[Slot; 4]>)>,
}

impl Straight {
    /// Reads a tape backwards from its output.
    pub fn of(program: &Program) -> Self {
        let mut wanted = vec![false; program.slots.len()];
        let mut last_use_seen = vec![false; program.slots.len()];
        let output = program.source(program.output);
        (wanted[output as usize], last_use_seen[output as usize]) = (true, true);
        let mut steps = Vec::new();
        for (i, instr) in program.instrs.iter().enumerate().rev() {
            let makes = |o: &Slot| wanted[*o as usize] && program.slots[*o as usize] == Producer::Instr(i as u32);
            if !instr.outputs.iter().any(makes) {
                continue;
            }
            let mut free = SmallVec::new();
            for s in instr.inputs.iter().map(|s| program.source(*s)) {
                wanted[s as usize] = true;
                if !std::mem::replace(&mut last_use_seen[s as usize], true) {
                    free.push(s);
                }
            }
            steps.push((i as u32, free));
        }
        steps.reverse();
        Straight { steps }
    }
}

/// The logits `[batch, position, vocabulary]`, lazily.
pub(crate) fn forward(model: &Inner, batch: &Batch) -> Result<Array> {
    let _gate = gate();
    let program = &model.program;
    let mut values: Vec<Option<Array>> = vec![None; program.slots.len()];
    for (slot, input) in batch.inputs().iter().enumerate() {
        values[slot] = Some(input.clone());
    }
    let mut masks = Masks::default();
    let missing = || err!(Backend, "a value of the tape is missing");
    for (i, free) in &model.straight.steps {
        let instr = &program.instrs[*i as usize];
        let made = {
            let mut inputs: SmallVec<[&Array; 6]> = SmallVec::new();
            for s in &instr.inputs {
                inputs.push(values[program.source(*s) as usize].as_ref().ok_or_else(missing)?);
            }
            let parameters = &model.parameters;
            let mut around = Surroundings { parameters, batch, masks: &mut masks, cache: None, kept: None };
            execute(instr, *i, &inputs, &mut around)?
        };
        for (slot, value) in instr.outputs.iter().zip(made) {
            values[*slot as usize] = Some(value);
        }
        for s in free {
            values[*s as usize] = None;
        }
    }
    values[program.source(program.output) as usize].take().ok_or_else(missing)
}
