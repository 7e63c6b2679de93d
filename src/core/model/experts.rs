//! Names inside mixtures of experts: the router's logits, who was chosen with which weight, and single experts.
//!
//! None of these names is anybody's word: they are read off the tape. What is called `chosen` is what the expert matrices
//! are chosen by, `weights` what their results are summed with, and `router` what the choice was made from.

use super::info::ExpertsInfo;
use super::sites::{SiteId, Sites};
use crate::core::arch::tape::{Binary, Choice, Experts, Instr, Layout, Op, Operand, Producer, Program, Slot};
use crate::error::{Result, err};

/// What a name means: a value, or the part of one that a single expert made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Site(SiteId),
    Expert(ExpertSite),
}

impl Target {
    /// The value that it is, or is a part of.
    pub fn site(self) -> SiteId {
        match self {
            Target::Site(site) => site,
            Target::Expert(x) => x.base,
        }
    }
}

/// The rows of a value that one expert made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpertSite {
    /// The value of all of them.
    pub base: SiteId,
    /// Index into [`Program::experts`].
    pub group: usize,
    pub expert: usize,
}

/// One module of experts.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Every name it goes by, the shortest first.
    pub names: Vec<String>,
    /// How many experts it has.
    pub count: usize,
    /// Values of which each expert makes a part: by their name inside the module.
    members: Vec<(String, SiteId)>,
}

impl Group {
    /// Reads one off the tape; `short` is its name on every architecture.
    pub fn new(experts: &Experts, short: Option<String>, program: &Program) -> Self {
        let prefix = format!("{}.", experts.path);
        let mut members = Vec::new();
        let parts = program.hooks.iter().enumerate().filter(|(_, (_, h))| h.layout == Layout::Experts);
        for (site, (name, _)) in parts {
            let Some(inside) = name.strip_prefix(&prefix) else { continue };
            members.push((inside.to_owned(), site));
            if let Some(module) = inside.strip_suffix(".output") {
                members.push((module.to_owned(), site));
            }
        }
        let names = short.into_iter().chain([experts.path.clone()]).collect();
        Group { names, count: experts.count, members }
    }

    /// `7`, `7.output` or `7.act` inside the module; none where no number stands.
    fn member(&self, inside: &str) -> Option<Result<(usize, SiteId)>> {
        let (number, value) = inside.split_once('.').unwrap_or((inside, "output"));
        let number: i64 = number.parse().ok()?;
        let name = &self.names[0];
        let expert = if number < 0 { number + self.count as i64 } else { number };
        let Some(expert) = usize::try_from(expert).ok().filter(|e| *e < self.count) else {
            return Some(Err(err!(
                UnknownSite,
                "no site '{name}.{inside}': there are {} experts, 0 to {}",
                self.count,
                self.count - 1
            )));
        };
        match self.members.iter().find(|(m, _)| m == value) {
            Some((_, site)) => Some(Ok((expert, *site))),
            None => {
                let there: Vec<&str> = self.members.iter().map(|(m, _)| m.as_str()).collect();
                Some(Err(err!(UnknownSite, "no site '{name}.{inside}': an expert has {}", there.join(", "))))
            }
        }
    }
}

impl Sites {
    /// What a name means, single experts included.
    pub(crate) fn target(&self, name: &str) -> Result<Target> {
        match self.known(name).map_or_else(|| self.expert(name), |site| Some(Ok(Target::Site(site)))) {
            Some(found) => found,
            None => self.resolve(name).map(Target::Site),
        }
    }

    /// What a name or a pattern means. In a pattern an expert's number is written out: `layers.*.mlp.experts.7`.
    pub(crate) fn targets(&self, pattern: &str) -> Result<Vec<Target>> {
        if !pattern.contains('*') {
            return self.target(pattern).map(|t| vec![t]);
        }
        let mut found: Vec<Target> = Vec::new();
        for spelled in self.spellings(pattern) {
            for (group, g) in self.experts.iter().enumerate() {
                for name in &g.names {
                    let parts = name.split('.').count();
                    let Some((at, _)) = spelled.match_indices('.').nth(parts - 1) else { continue };
                    let (prefix, inside) = (&spelled[..at], &spelled[at + 1..]);
                    if !super::sites::matches(prefix, name) {
                        continue;
                    }
                    if let Some(Ok((expert, base))) = g.member(inside) {
                        let target = Target::Expert(ExpertSite { base, group, expert });
                        if !found.contains(&target) {
                            found.push(target);
                        }
                    }
                }
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        Ok(self.resolve_many(pattern)?.into_iter().map(Target::Site).collect())
    }

    /// The expert that a name means, if it names one by number.
    pub(super) fn expert(&self, name: &str) -> Option<Result<Target>> {
        self.spellings(name).iter().find_map(|spelled| {
            self.experts.iter().enumerate().find_map(|(group, g)| {
                let inside = g.names.iter().find_map(|n| spelled.strip_prefix(n.as_str())?.strip_prefix('.'))?;
                let found = g.member(inside)?;
                Some(found.map(|(expert, base)| Target::Expert(ExpertSite { base, group, expert })))
            })
        })
    }

    /// How a single expert's value is called.
    pub(crate) fn expert_name(&self, x: ExpertSite) -> String {
        let g = &self.experts[x.group];
        let member = g.members.iter().find(|(_, site)| *site == x.base).map_or("output", |(m, _)| m);
        format!("{}.{}.{member}", g.names[0], x.expert)
    }

    /// Modules of experts.
    pub fn experts(&self) -> Vec<ExpertsInfo> {
        let info = |g: &Group| ExpertsInfo {
            names: g.names.clone(),
            count: g.count,
            values: g.members.iter().map(|(m, _)| m.clone()).collect(),
        };
        self.experts.iter().map(info).collect()
    }
}

/// The sites of one module's routing.
#[derive(Default)]
pub(super) struct Routing {
    pub router: Option<SiteId>,
    pub chosen: Option<SiteId>,
    pub weights: Option<SiteId>,
}

impl Routing {
    /// Reads them off the tape.
    pub fn of(experts: &Experts, program: &Program) -> Self {
        let named = |slot: Slot| program.hooks.iter().position(|(_, h)| h.slot == slot);
        // Of all names of one value, the first: what is written there reaches the others.
        let first_name = |slot: Slot| aliases(program, slot).into_iter().rev().find_map(named);
        let maker = |slot: Slot| match program.origin(slot) {
            Producer::Instr(i) => Some(&program.instrs[i as usize]),
            _ => None,
        };
        let output = program.hooks.iter().find(|(n, _)| *n == format!("{}.output", experts.path));
        let output = output.and_then(|(_, h)| aliases(program, h.slot).last().copied());
        let sums = |i: &&Instr| {
            matches!(i.op, Op::Choice(Choice::Combine)) && aliases(program, i.inputs[0]).last().copied() == output
        };
        let combined = program.instrs.iter().find(sums);
        let mut router = None;
        let choice = maker(experts.chosen);
        let mut at = choice.filter(|i| matches!(i.op, Op::Choice(_))).and_then(|i| i.inputs.first().copied());
        while let Some(slot) = at {
            router = first_name(slot).or(router);
            at = maker(slot).filter(|i| keeps_places(&i.op)).and_then(|i| i.inputs.first().copied());
        }
        Routing { router, chosen: first_name(experts.chosen), weights: combined.and_then(|i| first_name(i.inputs[1])) }
    }
}

/// What the tape proves of the names of routings.
pub(super) fn proofs(program: &Program) -> Vec<(SiteId, &'static str)> {
    let of = |experts: &Experts| {
        let r = Routing::of(experts, program);
        [
            (r.router, "what the choice of experts is made from"),
            (r.chosen, "what the expert matrices are chosen by"),
            (r.weights, "what the experts' results are summed with"),
        ]
    };
    program.experts.iter().flat_map(of).filter_map(|(site, what)| Some((site?, what))).collect()
}

/// A slot and what it is another name of, the value's maker last.
fn aliases(program: &Program, slot: Slot) -> Vec<Slot> {
    let mut all = vec![slot];
    while let Producer::Alias(of) = program.slots[all[all.len() - 1] as usize] {
        all.push(of);
    }
    all
}

/// Operations whose result belongs, number by number, to what they take.
fn keeps_places(op: &Op) -> bool {
    match op {
        Op::Unary(_) | Op::Softmax { .. } | Op::ToF32 | Op::Like | Op::Softcap(_) | Op::Clip { .. } => true,
        Op::Binary(b, x, y) => {
            !matches!(b, Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq)
                && matches!((x, y), (Operand::Slot(_), Operand::Number(_)) | (Operand::Number(_), Operand::Slot(_)))
        }
        _ => false,
    }
}
