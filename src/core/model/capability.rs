//! What may be relied on at each site: proven from the tape when the model is loaded, without running anything.
//!
//! A description chooses its names, and a wrong name is a wrong experiment. So a site counts as verified only when the
//! tape shows what the name promises: that `resid_mid` is the sum of what came in and what attention adds, that `attn.q`
//! is what the attention kernel takes, that a module's output comes from the tensors of that module.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::Sites;
use crate::core::arch::tape::{Binary, Op, Operand, Producer, Program, Slot};
use crate::core::model::SiteId;

/// What may be relied on at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// What the tape proves of its name; nothing when the name rests on the description's word alone.
    pub verified: Option<String>,
    /// Whether it may be changed.
    pub writable: bool,
    /// Whether gradients of the output reach it.
    pub differentiable: bool,
}

/// The capability of every site, by site number.
pub(super) fn manifest(program: &Program, sites: &Sites) -> Vec<Capability> {
    let tape = Tape::of(program);
    let differentiable = tape.differentiable();
    let mut all: Vec<Capability> = program
        .hooks
        .iter()
        .map(|(_, hook)| Capability {
            verified: None,
            writable: hook.slot as usize >= program.inputs.len() || program.is_free(hook.slot),
            differentiable: differentiable.contains(&hook.slot),
        })
        .collect();
    let mut proofs = Proofs { tape: &tape, sites, all: &mut all };
    proofs.modules();
    proofs.ends();
    for (site, what) in super::experts::proofs(program) {
        proofs.prove(site, what);
    }
    for i in 0..program.n_layers {
        proofs.residual_stream(i);
        proofs.attention(i);
        proofs.mlp(i);
    }
    all
}

/// The tape with the ways through it that the proofs need.
struct Tape<'a> {
    program: &'a Program,
    readers: FxHashMap<Slot, Vec<u32>>,
}

impl<'a> Tape<'a> {
    fn of(program: &'a Program) -> Self {
        let mut tape = Tape { program, readers: FxHashMap::default() };
        for (i, instr) in program.instrs.iter().enumerate() {
            for s in &instr.inputs {
                tape.readers.entry(tape.source(*s)).or_default().push(i as u32);
            }
        }
        tape
    }

    /// The slot in which a value was made, whatever names it got since.
    fn source(&self, mut slot: Slot) -> Slot {
        while let Producer::Alias(s) = self.program.slots[slot as usize] {
            slot = s;
        }
        slot
    }

    /// The operation that makes a value, its inputs and its module.
    fn made_by(&self, slot: Slot) -> Option<(&'a Op, &'a [Slot], &'a str)> {
        match self.program.slots[self.source(slot) as usize] {
            Producer::Instr(i) => {
                let instr = &self.program.instrs[i as usize];
                Some((&instr.op, &instr.inputs, &instr.path))
            }
            _ => None,
        }
    }

    fn same(&self, a: Slot, b: Slot) -> bool {
        self.source(a) == self.source(b)
    }

    /// The terms of a sum, taken apart as far as the values in `known`.
    fn terms(&self, slot: Slot, known: &[Slot], out: &mut Vec<Slot>) {
        let is_known = known.iter().any(|k| self.same(*k, slot));
        match self.made_by(slot) {
            Some((Op::Binary(Binary::Add, Operand::Slot(a), Operand::Slot(b)), ..)) if !is_known => {
                self.terms(*a, known, out);
                self.terms(*b, known, out);
            }
            _ => out.push(self.source(slot)),
        }
    }

    /// Whether `whole` is the sum of exactly `parts`.
    fn is_sum(&self, whole: Slot, parts: &[Slot]) -> bool {
        // A sum that is itself one of its parts proves nothing.
        if parts.iter().any(|p| self.same(*p, whole)) {
            return false;
        }
        let mut terms = Vec::new();
        self.terms(whole, parts, &mut terms);
        let mut parts: Vec<Slot> = parts.iter().map(|p| self.source(*p)).collect();
        terms.sort_unstable();
        parts.sort_unstable();
        terms == parts
    }

    /// Slots that gradients of the output reach.
    fn differentiable(&self) -> FxHashSet<Slot> {
        let mut reached = FxHashSet::default();
        let mut stack = vec![self.program.output];
        while let Some(slot) = stack.pop() {
            if (slot == 0 && self.program.takes_tokens()) || !reached.insert(slot) {
                continue;
            }
            if let Producer::Alias(s) = self.program.slots[slot as usize] {
                stack.push(s);
            }
            // A slot with a detour has two makers; both lead on.
            for instr in self.makers(slot) {
                let instr = &self.program.instrs[instr as usize];
                stack.extend(instr.op.gradients_reach(&instr.inputs));
            }
        }
        reached
    }

    fn makers(&self, slot: Slot) -> impl Iterator<Item = u32> {
        let own = match self.program.slots[slot as usize] {
            Producer::Instr(i) => Some(i),
            _ => None,
        };
        let around = self.program.detours.iter().filter(move |d| d.slot == slot).map(|d| d.instr);
        own.into_iter().chain(around)
    }
}

struct Proofs<'a> {
    tape: &'a Tape<'a>,
    sites: &'a Sites,
    all: &'a mut Vec<Capability>,
}

impl Proofs<'_> {
    fn find(&self, name: &str) -> Option<(SiteId, Slot)> {
        let site = self.sites.resolve(name).ok()?;
        Some((site, self.tape.program.hooks[site].1.slot))
    }

    fn prove(&mut self, site: SiteId, what: impl Into<String>) {
        self.all[site].verified.get_or_insert_with(|| what.into());
    }

    /// Inputs and outputs of the modules that hold tensors: the instruction that uses a module's tensors stands between.
    fn modules(&mut self) {
        let program = self.tape.program;
        let mut holders: FxHashMap<&str, Vec<u32>> = FxHashMap::default();
        for (i, instr) in program.instrs.iter().enumerate() {
            let uses = instr.op.tensors();
            let own = uses.iter().any(|t| {
                let name = program.tensors[*t as usize].as_str();
                let rest = name.strip_prefix(instr.path.as_str()).and_then(|rest| rest.strip_prefix('.'));
                rest.is_some_and(|tensor| !tensor.contains('.'))
            });
            // A tied head uses the embedding's tensors.
            if own || (!uses.is_empty() && program.roles.get("head").is_some_and(|h| *h == instr.path)) {
                holders.entry(instr.path.as_str()).or_default().push(i as u32);
            }
        }
        for (site, (name, hook)) in program.hooks.iter().enumerate() {
            let bare = name.split('#').next().unwrap_or(name);
            let Some((module, end)) = bare.rsplit_once('.') else { continue };
            let Some(instrs) = holders.get(module) else { continue };
            let own = |i: &u32| {
                let instr = &program.instrs[*i as usize];
                match end {
                    "input" => instr.inputs.iter().any(|s| self.tape.same(*s, hook.slot)),
                    "output" => self.comes_from(hook.slot, &instr.outputs, 6),
                    _ => false,
                }
            };
            if instrs.iter().any(own) {
                let what = format!("{end} of the module that holds {module}'s tensors");
                self.prove(site, what);
            }
        }
    }

    /// Whether a value is one of `sources`, or was made of one in at most `steps` instructions of the same module.
    fn comes_from(&self, slot: Slot, sources: &[Slot], steps: usize) -> bool {
        if sources.iter().any(|s| self.tape.same(*s, slot)) {
            return true;
        }
        match self.tape.made_by(slot) {
            Some((_, inputs, _)) if steps > 0 => inputs.iter().any(|i| self.comes_from(*i, sources, steps - 1)),
            _ => false,
        }
    }

    /// Embedding, final norm, logits.
    fn ends(&mut self) {
        if let (Some((site, output)), Some((_, head))) = (self.find("output"), self.find("lm_head"))
            && self.comes_from(output, &[head], 6)
        {
            self.prove(site, "what the head gives, soft-caps and scales applied");
        }
        let last = self.tape.program.n_layers.checked_sub(1).and_then(|i| self.find(&format!("layers.{i}.output")));
        if let (Some((_, last)), Some((site, norm))) = (last, self.find("norm.input"))
            && self.tape.same(last, norm)
        {
            self.prove(site, "the last layer's output");
        }
    }

    fn residual_stream(&mut self, i: usize) {
        let name = |value: &str| format!("layers.{i}.{value}");
        let get = |p: &Self, value: &str| p.find(&name(value));
        let (pre, post) = (get(self, "resid_pre"), get(self, "resid_post"));
        let (mid, attn, mlp) = (get(self, "resid_mid"), get(self, "attn_add"), get(self, "mlp_add"));
        let beside = get(self, "mixer_add").filter(|_| attn.is_some());
        let mixer = attn.or_else(|| get(self, "mixer_add"));
        if let (Some((pre, p)), Some((mid, m)), Some((attn, a)), Some((mixer, b))) = (pre, mid, attn, beside)
            && self.tape.is_sum(m, &[p, a, b])
        {
            self.prove(attn, format!("a term of {}", name("resid_mid")));
            self.prove(mixer, format!("a term of {}", name("resid_mid")));
            self.prove(mid, "resid_pre + what attention and the mixer beside it add");
            self.prove(pre, "what attention and the mixer beside it add to");
        }
        if let (Some((pre, p)), Some((mid, m)), Some((added, a))) = (pre, mid, mixer)
            && self.tape.is_sum(m, &[p, a])
        {
            self.prove(added, format!("a term of {}", name("resid_mid")));
            self.prove(mid, "resid_pre + what attention adds");
            self.prove(pre, "what attention adds to");
        }
        if let Some((post, s)) = post {
            let slots =
                |list: &[Option<(SiteId, Slot)>]| list.iter().map(|o| o.map(|(_, s)| s)).collect::<Option<Vec<_>>>();
            let sums = [
                (slots(&[mid, mlp]), "resid_mid + what the MLP adds"),
                (slots(&[pre, mixer, mlp]), "resid_pre + what attention adds + what the MLP adds"),
                (slots(&[pre, mixer]), "resid_pre + what the mixer adds"),
                (slots(&[pre, mlp]), "resid_pre + what the MLP adds"),
            ];
            let proof = sums.into_iter().find(|(parts, _)| parts.as_ref().is_some_and(|p| self.tape.is_sum(s, p)));
            if let Some((_, what)) = proof {
                self.prove(post, what);
                for (site, _) in [pre, mixer, mlp].into_iter().flatten() {
                    self.prove(site, format!("a term of {}", name("resid_post")));
                }
            }
            if let Some((next, input)) = self.find(&format!("layers.{}.input", i + 1))
                && self.tape.same(s, input)
            {
                self.prove(next, "the layer before's output");
                self.prove(post, "the next layer's input");
            }
        }
    }

    /// q, k, v are what the kernel takes, z what it gives; scores and pattern its own; results add up to the output.
    fn attention(&mut self, i: usize) {
        let name = |value: &str| format!("layers.{i}.attn.{value}");
        let Some((z_site, z)) = self.find(&name("z")) else { return };
        let source = self.tape.source(z);
        if let Some((Op::Attend(_), inputs, _)) = self.tape.made_by(z) {
            let inputs = inputs.to_vec();
            self.prove(z_site, "what the attention kernel gives");
            for (value, input) in ["q", "k", "v"].into_iter().zip(inputs) {
                let Some((site, slot)) = self.find(&name(value)) else { continue };
                if self.tape.same(slot, input) || self.before_cache(input, slot) {
                    self.prove(site, "what the attention kernel takes");
                }
            }
            let program = self.tape.program;
            for d in program.detours.iter().filter(|d| d.slot == source) {
                for value in ["scores", "pattern"] {
                    if let Some((site, slot)) = self.find(&name(value))
                        && d.inner.contains(&slot)
                    {
                        self.prove(site, "the explicit way to z");
                    }
                }
            }
        }
        if let (Some((site, slot)), Some((_, out))) = (self.find(&name("result")), self.find(&name("output"))) {
            let program = self.tape.program;
            let own = program.detours.iter().find(|d| d.inner.contains(&slot)).map(|d| d.slot);
            if own.is_some_and(|own| self.comes_from(out, &[own], 4)) {
                self.prove(site, "sums to attn.output, less the bias");
            }
        }
    }

    /// Whether `input` is `slot` with the cache in front.
    fn before_cache(&self, input: Slot, slot: Slot) -> bool {
        match self.tape.made_by(input) {
            Some((Op::Cache, inputs, _)) => {
                let Producer::Instr(i) = self.tape.program.slots[self.tape.source(input) as usize] else {
                    return false;
                };
                let outputs = &self.tape.program.instrs[i as usize].outputs;
                let at = outputs.iter().position(|o| *o == self.tape.source(input));
                at.and_then(|at| inputs.get(at)).is_some_and(|s| self.tape.same(*s, slot))
            }
            _ => false,
        }
    }

    /// act is what the last projection takes; gate and up are what act is made of.
    fn mlp(&mut self, i: usize) {
        let name = |value: &str| format!("layers.{i}.mlp.{value}");
        let (Some((act_site, act)), Some((_, out))) = (self.find(&name("act")), self.find(&name("output"))) else {
            return;
        };
        let Some((Op::Linear(_), inputs, _)) = self.tape.made_by(out) else { return };
        if !self.tape.same(inputs[0], act) {
            return;
        }
        self.prove(act_site, "what the MLP's last projection takes");
        if let Some((pre, slot)) = self.find(&name("pre"))
            && let Some((Op::Unary(_), inputs, _)) = self.tape.made_by(act)
            && self.tape.same(inputs[0], slot)
        {
            self.prove(pre, "act = f(pre)");
        }
        let (Some((gate_site, gate)), Some((up_site, up))) = (self.find(&name("gate")), self.find(&name("up"))) else {
            return;
        };
        if let Some((Op::Binary(Binary::Mul, Operand::Slot(a), Operand::Slot(b)), ..)) = self.tape.made_by(act) {
            let activated = |s: Slot| {
                let made = self.tape.made_by(s);
                made.is_some_and(|(op, inputs, _)| matches!(op, Op::Unary(_)) && self.tape.same(inputs[0], gate))
            };
            if (activated(*a) && self.tape.same(*b, up)) || (activated(*b) && self.tape.same(*a, up)) {
                self.prove(gate_site, "act = f(gate) * up");
                self.prove(up_site, "act = f(gate) * up");
            }
        }
    }
}

#[cfg(test)]
mod tests;
