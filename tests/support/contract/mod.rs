//! The name contract: a name means a computation, on every layer of every covered model, whatever its architecture.
//!
//! A name may be absent where a description has nothing of the kind; one that is there has to keep what it promises. What
//! an architecture does otherwise is excused by name, with the reason, in its entry.
#![allow(dead_code)]

mod names;
mod slopes;
mod writes;

use std::collections::BTreeMap;

use mlxterp::core::arch::tape::{Attention, Instr, Op, Producer, Slot};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::Array;
use mlxterp::core::trace::Trace;

use super::{bits, values};

/// What float32 rounding may do where a contract compares two ways of computing one thing.
const ROUNDING: f32 = 2e-5;

/// One model under the contract, and what was found wrong.
pub struct Contract<'a> {
    model: &'a Model,
    rows: Vec<Vec<u32>>,
    /// Clauses that do not hold here: `(b)` or `(c) layers.0.attn.v` to the reason.
    excused: BTreeMap<String, String>,
    /// Excuses that were needed.
    used: Vec<String>,
    failures: Vec<String>,
}

impl<'a> Contract<'a> {
    pub fn new(model: &'a Model, rows: &[Vec<u32>]) -> Self {
        Contract { model, rows: rows.to_vec(), excused: BTreeMap::new(), used: Vec::new(), failures: Vec::new() }
    }

    pub fn excusing(mut self, excused: BTreeMap<String, String>) -> Self {
        self.excused = excused;
        self
    }

    /// Everything that is wrong; an excuse that nothing needed is wrong too.
    pub fn failures(mut self) -> Vec<String> {
        for unused in self.excused.keys().filter(|k| !self.used.contains(k)) {
            self.failures.push(format!("{unused} is excused, but holds"));
        }
        self.failures
    }

    #[track_caller]
    pub fn holds(self, what: &str) {
        let failures = self.failures();
        assert!(failures.is_empty(), "{what}: {}", failures.join("\n"));
    }

    fn fail(&mut self, clause: &str, site: &str, why: impl std::fmt::Display) {
        let whole = format!("{clause} {site}");
        match self.excused.keys().find(|k| **k == clause || whole.starts_with(&***k)) {
            Some(excuse) => self.used.push(excuse.clone()),
            None => self.failures.push(format!("{whole}: {why}")),
        }
    }

    fn expect(&mut self, holds: bool, clause: &str, site: &str, why: impl std::fmt::Display) {
        if !holds {
            self.fail(clause, site, why);
        }
    }

    fn same_bits(&mut self, a: &Array, b: &Array, clause: &str, site: &str) {
        if a.shape() != b.shape() {
            return self.fail(clause, site, format!("shapes {:?} and {:?}", a.shape(), b.shape()));
        }
        let same = bits(a) == bits(b);
        self.expect(same, clause, site, format!("bits differ, by {:.1e}", difference(a, b)));
    }

    fn close(&mut self, a: &Array, b: &Array, clause: &str, site: &str) {
        if a.shape() != b.shape() {
            return self.fail(clause, site, format!("shapes {:?} and {:?}", a.shape(), b.shape()));
        }
        let off = difference(a, b);
        self.expect(off <= ROUNDING, clause, site, format!("off by {off:.1e}"));
    }

    fn has(&self, site: &str) -> bool {
        self.model.sites().resolve(site).is_ok()
    }

    /// The value of a site, if the model has it.
    fn find(&mut self, trace: &Trace, site: &str) -> Option<Array> {
        if !self.has(site) {
            return None;
        }
        trace.get(site).map_err(|e| self.fail("reading", site, e)).ok()
    }

    fn layer_names(&self) -> Vec<String> {
        (0..self.model.num_layers()).map(|i| format!("layers.{i}")).collect()
    }

    /// The instruction that makes a site's value.
    fn maker(&self, site: &str) -> Option<&'a Instr> {
        let program = self.model.program();
        let site = self.model.sites().resolve(site).ok()?;
        match program.origin(program.hooks[site].1.slot) {
            Producer::Instr(i) => Some(&program.instrs[i as usize]),
            _ => None,
        }
    }

    /// Whether a slot holds the value of a site, under whatever name.
    fn is_origin(&self, site: &str, slot: Slot) -> bool {
        let program = self.model.program();
        let site = self.model.sites().resolve(site).ok();
        site.is_some_and(|site| program.origin(program.hooks[site].1.slot) == program.origin(slot))
    }

    /// The attention kernel that makes a layer's `attn.z`.
    fn attention(&self, layer: &str) -> Option<Attention> {
        match &self.maker(&format!("{layer}.attn.z"))?.op {
            Op::Attend(a) => Some(*a),
            _ => None,
        }
    }

    /// No position computes from later ones.
    fn causal(&self) -> bool {
        self.model.program().instrs.iter().all(|i| !matches!(&i.op, Op::Attend(a) if !a.causal))
    }
}

/// max |a - b| / max |b|, or just max |a - b| where b is zero.
fn difference(a: &Array, b: &Array) -> f32 {
    let (a, b) = (values(a), values(b));
    let top = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off =
        a.iter().zip(&b).fold(0f32, |m, (x, y)| if (x - y).is_nan() { f32::INFINITY } else { m.max((x - y).abs()) });
    if top > 0.0 { off / top } else { off }
}
