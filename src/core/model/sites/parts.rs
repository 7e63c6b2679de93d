//! Which part of a layer a module is, where a description gives several parts the same name.
//!
//! Hybrids call the mixer of every layer alike, be it attention or a recurrence. What the module computes decides.

use rustc_hash::FxHashSet;

use crate::core::arch::tape::{Op, Program};

/// The parts that can share a name.
const PARTS: [&str; 3] = ["attn", "mixer", "mlp"];

/// Which modules attend, and which carry something from one position to the next in another way.
pub(super) struct Parts<'a> {
    program: &'a Program,
    attends: FxHashSet<&'a str>,
    recurs: FxHashSet<&'a str>,
}

impl<'a> Parts<'a> {
    pub fn of(program: &'a Program) -> Self {
        let mut parts = Parts { program, attends: FxHashSet::default(), recurs: FxHashSet::default() };
        for instr in &program.instrs {
            let kind = match instr.op {
                Op::Attend(_) => &mut parts.attends,
                Op::Recur { .. } | Op::Conv { .. } | Op::TokenShift => &mut parts.recurs,
                _ => continue,
            };
            // The module itself and those it lies in.
            let path = instr.path.as_str();
            kind.extend(path.match_indices('.').map(|(i, _)| &path[..i]).chain([path]));
        }
        parts
    }

    /// Whether the module `name`, at `path`, is the layer's `part`: always, unless another part has its name.
    pub fn is(&self, part: &str, name: &str, path: &str) -> bool {
        let named = PARTS.into_iter().filter(|p| self.program.roles.get(*p).is_some_and(|n| n == name));
        if named.count() < 2 {
            return true;
        }
        let kind = match (self.attends.contains(path), self.recurs.contains(path)) {
            (true, _) => "attn",
            (false, true) => "mixer",
            (false, false) => "mlp",
        };
        part == kind
    }
}
