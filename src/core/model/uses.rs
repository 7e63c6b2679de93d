//! What can be known of a tape before any run: who uses what, and the explicit ways by slot.

use crate::core::arch::tape::{Producer, Program, Slot};

/// Uses of every slot, worked out once at load.
pub struct Uses {
    /// Instructions that read a slot, directly or through its aliases.
    instrs: Vec<Vec<u32>>,
    /// Aliases of a slot.
    aliases: Vec<Vec<Slot>>,
    /// Place of a slot in execution order: the instruction that makes it, counted from 1; aliases stand with their source.
    place: Vec<u32>,
    /// The explicit way that makes a slot, by index into `program.detours`.
    detour_of: Vec<Option<u32>>,
    /// Detours that a slot is inside of.
    inside: Vec<Vec<u32>>,
}

impl Uses {
    /// Reads a tape.
    pub fn of(program: &Program) -> Self {
        let n = program.slots.len();
        let mut uses = Uses {
            instrs: vec![Vec::new(); n],
            aliases: vec![Vec::new(); n],
            place: vec![0; n],
            detour_of: vec![None; n],
            inside: vec![Vec::new(); n],
        };
        for (i, instr) in program.instrs.iter().enumerate() {
            for s in &instr.outputs {
                uses.place[*s as usize] = i as u32 + 1;
            }
            for s in &instr.inputs {
                if uses.instrs[*s as usize].last() != Some(&(i as u32)) {
                    uses.instrs[*s as usize].push(i as u32);
                }
            }
        }
        for (s, producer) in program.slots.iter().enumerate() {
            if let Producer::Alias(source) = producer {
                uses.aliases[*source as usize].push(s as Slot);
            }
        }
        // Aliases always name earlier slots, so one pass settles their places.
        for (s, producer) in program.slots.iter().enumerate() {
            if let Producer::Alias(source) = producer {
                uses.place[s] = uses.place[*source as usize];
            }
        }
        for (d, detour) in program.detours.iter().enumerate() {
            uses.detour_of[detour.slot as usize] = Some(d as u32);
            for s in &detour.inner {
                uses.inside[*s as usize].push(d as u32);
            }
        }
        uses
    }

    /// Place in execution order; 0 is the input.
    pub fn place(&self, slot: Slot) -> u32 {
        self.place[slot as usize]
    }

    /// The explicit way to make `slot`, if it has one.
    pub fn detour_of(&self, slot: Slot) -> Option<u32> {
        self.detour_of[slot as usize]
    }

    /// The explicit ways that pass through `slot`.
    pub fn inside(&self, slot: Slot) -> &[u32] {
        &self.inside[slot as usize]
    }

    /// Aliases of `slot`.
    pub fn aliases(&self, slot: Slot) -> &[Slot] {
        &self.aliases[slot as usize]
    }

    /// Instructions that read `slot` by this very name.
    pub fn readers(&self, slot: Slot) -> &[u32] {
        &self.instrs[slot as usize]
    }

    /// Whether any instruction, through aliases too, satisfies `test` among the readers of `slot`.
    pub fn any_reader(&self, slot: Slot, test: &mut dyn FnMut(u32) -> bool) -> bool {
        self.readers(slot).iter().any(|i| test(*i)) || self.aliases(slot).iter().any(|a| self.any_reader(*a, test))
    }
}
