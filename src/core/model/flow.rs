//! Where a change of a value can be seen, and where not: read off the tape, nothing is run.
//!
//! An analysis that patches one value in many runs asks here which positions a patch can reach, what of a run is the
//! same with and without it, and whether the residual stream is all that one layer tells the next. The answers hold for
//! every description; where the tape does not show something, the answer is the cautious one.

use super::{Inner, SiteId};
use crate::core::arch::tape::{Choice, Op, Producer, Slot, Special};

/// The residual stream of a model whose layers tell each other nothing besides.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// The input of each layer.
    pub inputs: Vec<SiteId>,
    /// The output of each layer.
    pub outputs: Vec<SiteId>,
    /// What each layer remembers from one run to the next: instructions that keep keys and values.
    pub remembers: Vec<Vec<u32>>,
}

/// What lies between two values.
struct Section {
    slots: Vec<Slot>,
    instrs: Vec<u32>,
    /// The tokens themselves are among what it needs.
    reads_input: bool,
}

impl Inner {
    /// Every slot that `slot` has a part in, itself too.
    fn after(&self, slot: Slot) -> Vec<bool> {
        let mut seen = vec![false; self.program.slots.len()];
        let mut stack = vec![slot];
        while let Some(s) = stack.pop() {
            if std::mem::replace(&mut seen[s as usize], true) {
                continue;
            }
            stack.extend(self.uses.aliases(s));
            for i in self.uses.readers(s) {
                stack.extend(&self.program.instrs[*i as usize].outputs);
            }
        }
        seen
    }

    /// All that `to` is made of, as far back as `from`; nothing means as far as the input.
    fn between(&self, from: Option<Slot>, to: Slot) -> Section {
        let mut seen = vec![false; self.program.slots.len()];
        let mut passed = vec![false; self.program.instrs.len()];
        let mut section = Section { slots: Vec::new(), instrs: Vec::new(), reads_input: false };
        let mut stack = vec![to];
        while let Some(s) = stack.pop() {
            if Some(s) == from || std::mem::replace(&mut seen[s as usize], true) {
                continue;
            }
            section.slots.push(s);
            let explicit = self.uses.detour_of(s).map(|d| self.program.detours[d as usize].instr);
            let own = match self.program.slots[s as usize] {
                Producer::Input => {
                    section.reads_input = true;
                    None
                }
                Producer::Alias(source) => {
                    stack.push(source);
                    None
                }
                Producer::Instr(i) => Some(i),
            };
            for i in own.into_iter().chain(explicit) {
                if !std::mem::replace(&mut passed[i as usize], true) {
                    section.instrs.push(i);
                    let instr = &self.program.instrs[i as usize];
                    if !only_counts(&instr.op) {
                        stack.extend(&instr.inputs);
                    }
                }
            }
        }
        section
    }

    /// Whether the logits have anything of a slot.
    pub(crate) fn reaches_output(&self, slot: Slot) -> bool {
        self.after(slot)[self.program.output as usize]
    }

    /// Whether a slot's value at one position may change the logits at another.
    pub(crate) fn reaches_other_positions(&self, slot: Slot) -> bool {
        let wanted = self.between(None, self.program.output);
        let mut on_the_way = vec![false; self.program.slots.len()];
        wanted.slots.iter().for_each(|s| on_the_way[*s as usize] = true);
        let mut seen = vec![false; self.program.slots.len()];
        let mut stack = vec![slot];
        while let Some(s) = stack.pop() {
            if std::mem::replace(&mut seen[s as usize], true) {
                continue;
            }
            stack.extend(self.uses.aliases(s));
            for i in self.uses.readers(s) {
                let instr = &self.program.instrs[*i as usize];
                if !instr.outputs.iter().any(|o| on_the_way[*o as usize]) {
                    continue;
                }
                let apart = |(at, input): (usize, &Slot)| *input != s || keeps_positions_apart(&instr.op, at);
                if !instr.inputs.iter().enumerate().all(apart) {
                    return true;
                }
                stack.extend(&instr.outputs);
            }
        }
        false
    }

    /// Whether a slot's value at a position comes from the token and the position there alone.
    pub(crate) fn is_of_its_token(&self, slot: Slot) -> bool {
        let apart = |i: &u32| {
            let op = &self.program.instrs[*i as usize].op;
            only_counts(op)
                || (0..self.program.instrs[*i as usize].inputs.len()).all(|at| keeps_positions_apart(op, at))
        };
        self.program.takes_tokens() && self.between(None, slot).instrs.iter().all(apart)
    }

    /// Whether the logits come from a slot and the weights alone.
    pub(crate) fn is_all_the_output_needs(&self, slot: Slot) -> bool {
        !self.between(Some(slot), self.program.output).reads_input
    }

    /// Whether what follows a token never changes what is made of it.
    pub(crate) fn is_causal(&self) -> bool {
        let known = |op: &Op| !matches!(op, Op::Opaque);
        self.program.takes_tokens() && !self.program.looks_ahead() && self.program.instrs.iter().all(|i| known(&i.op))
    }

    /// The residual stream, if a run that starts from a layer's input and the keys and values before a position is that
    /// of a whole prompt from there on, whatever was changed at or after `root` in the layers below.
    pub(crate) fn stream(&self, root: Option<Slot>) -> Option<Stream> {
        let instrs = &self.program.instrs;
        if !self.is_causal() || instrs.iter().any(|i| i.op.remembers() && i.op != Op::Cache) {
            return None;
        }
        let name = |i: usize, end: &str| self.sites.resolve(&format!("layers.{i}.{end}")).ok();
        let n = self.program.n_layers;
        let inputs = (0..n).map(|i| name(i, "input")).collect::<Option<Vec<_>>>()?;
        let outputs = (0..n).map(|i| name(i, "output")).collect::<Option<Vec<_>>>()?;
        let changed = self.after(root.or_else(|| inputs.first().map(|s| self.slot(*s)))?);
        let mut remembers = Vec::new();
        for i in 0..n {
            let own = self.slot(inputs[i]);
            let section = self.between(Some(own), self.slot(outputs[i]));
            if !self.tells_all(own, &section, &changed) {
                return None;
            }
            let keeps = |at: &u32| instrs[*at as usize].op == Op::Cache;
            remembers.push(section.instrs.iter().copied().filter(keeps).collect());
            let next = if i + 1 < n { self.slot(inputs[i + 1]) } else { continue };
            if self.program.source(next) != self.program.source(self.slot(outputs[i])) {
                return None;
            }
        }
        let last = self.slot(*outputs.last()?);
        let head = self.between(Some(last), self.program.output);
        let remembered = head.instrs.iter().any(|at| instrs[*at as usize].op.remembers());
        (self.tells_all(last, &head, &changed) && !remembered).then_some(Stream { inputs, outputs, remembers })
    }

    /// Whether nothing that may have changed comes into a section but through `from`.
    fn tells_all(&self, from: Slot, section: &Section, changed: &[bool]) -> bool {
        let inside = self.after(from);
        section.slots.iter().all(|s| inside[*s as usize] || !changed[*s as usize])
    }
}

/// Whether an instruction looks at how many positions its input has, and not at what is there.
fn only_counts(op: &Op) -> bool {
    matches!(
        op,
        Op::Positions { .. } | Op::Special(Special::PositionAxis { .. } | Special::Alibi { .. } | Special::IsStart)
    )
}

/// Whether what an instruction makes at a position comes, as far as one of its inputs goes, from that position alone.
fn keeps_positions_apart(op: &Op, input: usize) -> bool {
    match op {
        Op::Linear(_) | Op::Embedding(_) | Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::Rope(_) => true,
        Op::Heads { .. } | Op::PerHead { .. } | Op::Flip | Op::Merge | Op::HeadResult(_) | Op::HeadSum(_) => true,
        Op::Unary(_) | Op::Binary(..) | Op::Softcap(_) | Op::Clip { .. } | Op::Where(..) => true,
        Op::ToF32 | Op::Like | Op::Switch { .. } | Op::MultiLinear { .. } => true,
        // A query's answer stands at the query.
        Op::Attend(_) | Op::AttendScores(_) | Op::AttendPattern(_) | Op::AttendMix(_) => input == 0,
        Op::Split { axis, .. } | Op::Concat { axis } | Op::Softmax { axis } | Op::Reduce { axis, .. } => *axis == -1,
        Op::Unflatten { axis, .. } => *axis == -1,
        Op::Choice(choice) => matches!(
            choice,
            Choice::TopK { .. }
                | Choice::SparseMixer { .. }
                | Choice::Combine
                | Choice::Take
                | Choice::Put
                | Choice::ArgMax
                | Choice::ZerosLike
                | Choice::MaskIds(_)
        ),
        Op::Special(special) => matches!(special, Special::XIelu | Special::BroadcastHeads { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
