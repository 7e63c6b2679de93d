//! What a part of the model makes of a value: from one site to others, with nothing before it run.
//!
//! This is how a single reader can be shown something else than all the others see: its part of the way is run on a value
//! of its own, and what comes out is written where that reader's result stands.

use rustc_hash::FxHashSet;

use super::Trace;
use super::edit::Edit;
use super::run::Run;
use crate::core::arch::tape::{Op, Producer, Program, Slot};
use crate::core::model::{Inner, Model};
use crate::core::tensor::Array;
use crate::error::{Result, bail};

impl Trace {
    /// What stands at the sites `to` when `value` stands at site `from`, lazily. `value` is the site's, or `n` of them along
    /// the rows (row `i` is this trace's row `i % rows`); what this trace was changed by on the way is done here too.
    /// The trace itself stays as it was.
    ///
    /// Errors: a site of `to` that depends on more than `from` (what else was run is not known here), or not on it; a trace
    /// that goes on after a cache.
    pub fn onward(&self, from: &str, value: &Array, to: &[&str]) -> Result<Vec<Array>> {
        let model = self.0.model.clone();
        let site = model.slot(model.sites.resolve(from)?);
        let start = model.program.source(site);
        let ends: Vec<Slot> =
            to.iter().map(|s| model.sites.resolve(s).map(|s| model.slot(s))).collect::<Result<_>>()?;
        for (end, name) in ends.iter().zip(to) {
            leads_alone(&model, start, *end, from, name)?;
        }
        let (batch, edits) = self.with(|run| Ok((run.batch.clone(), run.edits.clone())))?;
        if batch.past_width() > 0 {
            bail!(Unsupported, "onward of a trace that goes on after a cache: trace the whole text without one");
        }
        let rows = batch.len();
        if value.ndim() == 0 || value.dim(0) == 0 || !value.dim(0).is_multiple_of(rows) {
            bail!(Shape, "'{from}': a value of shape {:?} is not rows of a batch of {rows}", value.shape());
        }
        let copies = value.dim(0) / rows;
        let mut run = Run::new(model.clone(), batch.repeated(copies)?.into(), false, None);
        run.place(start, value.clone());
        let before = model.uses.place(start);
        // What was changed at the site itself is in the value already; at other names of it, only their readers see it.
        let own = names_of(&model.program, site);
        let later = |e: &Edit| {
            let slot = model.slot(e.site);
            let at = model.uses.place(slot);
            at > before || (at == before && model.program.source(slot) == start && !own.contains(&slot))
        };
        for mut edit in edits.into_iter().filter(later) {
            if copies > 1 && edit.names_rows() {
                bail!(
                    Unsupported,
                    "'{}' was changed in chosen rows: copies of the rows cannot say which are meant",
                    model.slot_name(model.slot(edit.site))
                );
            }
            edit.forget();
            edit.each_array(|a| match a.ndim() > 0 && a.dim(0) == rows {
                true => crate::core::tensor::concatenate(std::iter::repeat_n(a, copies), 0),
                false => Ok(a.clone()),
            })?;
            run.write(edit)?;
        }
        ends.into_iter().map(|end| run.value(end)).collect()
    }
}

impl Model {
    /// Whether the value of one site is made of another's, by whatever way.
    pub fn depends(&self, from: &str, on_it: &str) -> Result<bool> {
        let slot = |name: &str| self.sites().resolve(name).map(|site| self.inner().slot(site));
        let program = self.program();
        Ok(ways(program, program.source(slot(from)?), slot(on_it)?).0)
    }
}

/// A slot and those that it is another name of.
fn names_of(program: &Program, mut slot: Slot) -> Vec<Slot> {
    let mut names = vec![slot];
    while let Producer::Alias(of) = program.slots[slot as usize] {
        slot = of;
        names.push(slot);
    }
    names
}

/// Refuses an end that is not made of `start`, weights and positions alone.
fn leads_alone(model: &Inner, start: Slot, end: Slot, from: &str, to: &str) -> Result<()> {
    match ways(&model.program, start, end) {
        (true, None) => Ok(()),
        (false, _) => bail!(InvalidArgument, "'{to}' does not depend on '{from}'"),
        (true, Some(other)) => bail!(
            Unsupported,
            "'{to}' depends on more than '{from}': on '{}' too, which is another part of the run",
            model.slot_name(other)
        ),
    }
}

/// Whether `end` depends on `start`, and an input of the run that it depends on besides.
fn ways(program: &Program, start: Slot, end: Slot) -> (bool, Option<Slot>) {
    let (mut reached, mut other) = (false, None);
    let mut seen = FxHashSet::default();
    let mut stack = vec![program.source(end)];
    while let Some(slot) = stack.pop() {
        if slot == start {
            reached = true;
            continue;
        }
        if !seen.insert(slot) {
            continue;
        }
        match program.origin(slot) {
            Producer::Input => other = Some(slot),
            Producer::Instr(i) => {
                let instr = &program.instrs[i as usize];
                // Positions count the tokens; which tokens they are does not matter.
                if !matches!(instr.op, Op::Positions { .. }) {
                    stack.extend(instr.inputs.iter().map(|s| program.source(*s)));
                }
            }
            Producer::Alias(_) => {}
        }
    }
    (reached, other)
}
