//! The executor: a run of a tape over one batch, built on demand.
//!
//! Asking for a slot builds the lazy graph of what it depends on and nothing else. The tape is pure, so a value may be
//! forgotten and built again; a write forgets what depended on the old value.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::attention::Masks;
use super::batch::Batch;
use super::cache::{Cache, State};
use super::edit::{Around, Change, Edit, Met};
use super::experts::{check_choice, rows_of};
use super::kernels::{Surroundings, execute};
use crate::core::arch::tape::{Op, Producer, Slot};
use crate::core::model::{ExpertSite, Inner, SiteId, Target};
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail, err};

/// One run: values by slot, edits in the order they were given, and what the user holds.
#[derive(Clone)]
pub(crate) struct Run {
    pub model: Arc<Inner>,
    pub batch: Arc<Batch>,
    /// Generation step; 0 in a plain forward.
    pub step: usize,
    memo: Vec<Option<Array>>,
    built: Vec<bool>,
    masks: Masks,
    /// What was seen before, and what each instruction remembers afterwards; neither when nobody asked.
    cache: Option<Cache>,
    kept: Option<Vec<Option<State>>>,
    pub edits: Vec<Edit>,
    edits_at: HashMap<Slot, Vec<usize>>,
    edited: Vec<bool>,
    /// Explicit ways taken in this run.
    taken: Vec<bool>,
    /// Slots whose value the user holds: as marks, and as a list.
    handed: Vec<bool>,
    handed_list: Vec<Slot>,
    /// Keep every handle: asked for, or a late read began a replay.
    pub keep_all: bool,
    /// Highest place built so far.
    frontier: u32,
    /// Something built was dropped before an evaluation.
    trimmed: bool,
}

/// What the walk does next.
enum Step {
    Visit(Slot),
    Make(u32),
    Edit(Slot),
}

impl Run {
    pub fn new(model: Arc<Inner>, batch: Arc<Batch>, keep_all: bool, cache: Option<Cache>) -> Self {
        let program = &model.program;
        Self {
            memo: vec![None; program.slots.len()],
            built: vec![false; program.instrs.len()],
            masks: Masks::default(),
            kept: cache.is_some().then(|| vec![None; program.instrs.len()]),
            cache,
            edits: Vec::new(),
            edits_at: HashMap::new(),
            edited: vec![false; program.slots.len()],
            taken: vec![false; program.detours.len()],
            handed: vec![false; program.slots.len()],
            handed_list: Vec::new(),
            keep_all,
            frontier: 0,
            trimmed: false,
            batch,
            step: 0,
            model,
        }
    }

    /// A second continuation that shares everything built so far and has handed out nothing.
    pub fn fork(&self) -> Self {
        let mut fork = self.clone();
        fork.handed.fill(false);
        fork.handed_list.clear();
        fork
    }

    /// A fork whose batch is this one's `n` times over: what later values need is shared by all rows, not run again.
    pub fn fork_rows(&self, n: usize) -> Result<Self> {
        if let Some(e) = self.edits.iter().find(|e| e.names_rows()) {
            let site = self.model.slot_name(self.model.slot(e.site));
            bail!(
                Unsupported,
                "'{site}' was changed in chosen rows: fork_rows cannot say which rows of the fork are meant"
            );
        }
        let mut fork = self.fork();
        fork.batch = Arc::new(self.batch.repeated(n)?);
        fork.masks = Masks::default();
        fork.cache = self.cache.as_ref().map(|c| c.repeated(n)).transpose()?;
        for state in fork.kept.iter_mut().flatten().flatten() {
            for a in state {
                *a = self.repeat_rows(a, n)?;
            }
        }
        for s in 0..fork.memo.len() {
            if let Some(value) = fork.memo[s].take() {
                if self.is_needed(s as Slot) {
                    fork.memo[s] = Some(self.repeat_rows(&value, n)?);
                } else {
                    fork.trimmed = true;
                }
            }
        }
        for edit in &mut fork.edits {
            edit.each_array(|a| self.repeat_rows(a, n))?;
        }
        Ok(fork)
    }

    fn repeat_rows(&self, value: &Array, n: usize) -> Result<Array> {
        if value.ndim() == 0 || value.dim(0) != self.batch.len() {
            return Ok(value.clone());
        }
        tensor::concatenate(std::iter::repeat_n(value, n), 0)
    }

    /// The slot that really holds a value: aliases nobody wrote to lead to their source.
    fn holder(&self, mut slot: Slot) -> Slot {
        while !self.edited[slot as usize] {
            match self.model.program.slots[slot as usize] {
                Producer::Alias(source) => slot = source,
                _ => break,
            }
        }
        slot
    }

    fn producer(&self, slot: Slot) -> Producer {
        match self.model.uses.detour_of(slot) {
            Some(d) if self.taken[d as usize] => Producer::Instr(self.model.program.detours[d as usize].instr),
            _ => self.model.program.slots[slot as usize],
        }
    }

    /// The value of a slot, its graph built as far as need be.
    pub fn value(&mut self, slot: Slot) -> Result<Array> {
        let holder = self.holder(slot);
        if let Some(value) = &self.memo[holder as usize] {
            return Ok(value.clone());
        }
        if self.trimmed && self.frontier >= self.model.uses.place(holder) {
            // A late read: replay once, and from now on keep what the replay makes.
            self.keep_all = true;
        }
        self.build(holder)?;
        self.memo[holder as usize].clone().ok_or_else(|| err!(Backend, "slot {slot} was not built"))
    }

    /// Puts a value where the run would have made it: nothing before it is built.
    pub fn place(&mut self, slot: Slot, value: Array) {
        self.memo[slot as usize] = Some(value);
    }

    fn build(&mut self, slot: Slot) -> Result<()> {
        self.run_steps(vec![Step::Visit(slot)])
    }

    fn run_steps(&mut self, mut stack: Vec<Step>) -> Result<()> {
        while let Some(step) = stack.pop() {
            match step {
                Step::Visit(slot) => self.visit(self.holder(slot), &mut stack),
                Step::Make(instr) => self.make(instr)?,
                Step::Edit(slot) => self.apply_edits(slot)?,
            }
        }
        Ok(())
    }

    fn visit(&mut self, slot: Slot, stack: &mut Vec<Step>) {
        if self.memo[slot as usize].is_some() {
            return;
        }
        // A write's result outlives trimming: nothing above it need be built again.
        if let Some(after) = self.last_edit(slot).and_then(|e| e.after.clone()) {
            self.memo[slot as usize] = Some(after);
            return;
        }
        match self.producer(slot) {
            Producer::Input => {
                self.memo[slot as usize] = self.batch.inputs().get(slot as usize).cloned();
                stack.push(Step::Edit(slot));
            }
            Producer::Alias(source) => {
                stack.push(Step::Edit(slot));
                stack.push(Step::Visit(source));
            }
            Producer::Instr(i) => {
                stack.push(Step::Make(i));
                let inputs = &self.model.program.instrs[i as usize].inputs;
                stack.extend(inputs.iter().rev().map(|s| Step::Visit(*s)));
            }
        }
    }

    fn make(&mut self, index: u32) -> Result<()> {
        let model = self.model.clone();
        let instr = &model.program.instrs[index as usize];
        let remembered = !instr.op.remembers() || self.kept.as_ref().is_none_or(|k| k[index as usize].is_some());
        if remembered && instr.outputs.iter().all(|s| self.memo[*s as usize].is_some()) {
            return Ok(());
        }
        let made = {
            let holders: SmallVec<[Slot; 6]> = instr.inputs.iter().map(|s| self.holder(*s)).collect();
            let mut inputs: SmallVec<[&Array; 6]> = SmallVec::new();
            for h in holders {
                inputs.push(self.memo[h as usize].as_ref().ok_or_else(|| err!(Backend, "an input was not built"))?);
            }
            let mut around = Surroundings {
                parameters: &model.parameters,
                batch: &self.batch,
                masks: &mut self.masks,
                cache: self.cache.as_ref(),
                kept: self.kept.as_deref_mut(),
            };
            execute(instr, index, &inputs, &mut around)?
        };
        self.built[index as usize] = true;
        self.frontier = self.frontier.max(index + 1);
        for (slot, value) in instr.outputs.iter().zip(made) {
            if self.memo[*slot as usize].is_some() {
                continue;
            }
            self.memo[*slot as usize] = Some(value);
            if self.edited[*slot as usize] {
                self.apply_edits(*slot)?;
            }
        }
        Ok(())
    }

    /// What every instruction remembers after this run, or only those wanted.
    pub fn cache(&mut self, wanted: Option<&[u32]>) -> Result<Cache> {
        let (Some(cache), model) = (self.cache.clone(), self.model.clone()) else {
            bail!(
                InvalidArgument,
                "the trace remembers nothing: start it with a cache (an empty one for a first step)"
            );
        };
        let is_wanted = |i: usize| wanted.is_none_or(|w| w.contains(&(i as u32)));
        for (i, instr) in model.program.instrs.iter().enumerate().filter(|(_, instr)| instr.op.remembers()) {
            if is_wanted(i) && self.kept.as_ref().is_some_and(|k| k[i].is_none()) {
                let mut stack = vec![Step::Make(i as u32)];
                stack.extend(instr.inputs.iter().rev().map(|s| Step::Visit(*s)));
                self.run_steps(stack)?;
            }
        }
        Ok(cache.after(&model, self.batch.segment(), self.kept.clone().unwrap_or_default()))
    }

    fn last_edit(&self, slot: Slot) -> Option<&Edit> {
        if !self.edited[slot as usize] {
            return None;
        }
        self.edits_at.get(&slot).and_then(|list| list.last()).map(|i| &self.edits[*i])
    }

    /// Puts the edits of a slot over its own value, in the order they were given.
    fn apply_edits(&mut self, slot: Slot) -> Result<()> {
        let own = match self.memo[slot as usize].take() {
            Some(value) => value,
            None => match self.producer(slot) {
                Producer::Alias(source) => {
                    let holder = self.holder(source);
                    self.memo[holder as usize].clone().ok_or_else(|| err!(Backend, "a source was not built"))?
                }
                _ => bail!(Backend, "an edited slot was not built"),
            },
        };
        let mut value = own;
        for i in self.edits_at.get(&slot).cloned().unwrap_or_default() {
            value = self.applied(i, &value)?;
        }
        self.memo[slot as usize] = Some(value);
        Ok(())
    }

    /// What an edit makes of a value.
    fn applied(&mut self, number: usize, old: &Array) -> Result<Array> {
        let (model, batch) = (self.model.clone(), self.batch.clone());
        let chosen = match self.edits[number].expert {
            Some(x) => Some(self.value(model.program.experts[x.group].chosen)?),
            None => None,
        };
        let probed = match self.edits[number].gate.as_ref().map(|g| &g.met) {
            Some(Met::Probe(slot)) => Some(self.value(*slot)?),
            _ => None,
        };
        let around =
            Around { model: &model, batch: &batch, step: self.step, chosen: chosen.as_ref(), probed: probed.as_ref() };
        let edit = &mut self.edits[number];
        let new = edit.apply(old, &around)?;
        if let Some(count) = model.program.bounds.get(&model.slot(edit.site)) {
            check_choice(&new, *count, &edit.name(&model)).inspect_err(|_| edit.forget())?;
        }
        Ok(new)
    }

    /// What one expert made of a value: `[rows, feature]`, batch by position by choice. Only the routing is computed.
    pub fn read_expert(&mut self, x: ExpertSite) -> Result<Array> {
        let rows = self.expert_rows(x)?;
        rows.take(&self.read(x.base)?)
    }

    /// The same, without handing it out.
    pub fn expert_value(&mut self, x: ExpertSite) -> Result<Array> {
        let rows = self.expert_rows(x)?;
        let slot = self.model.slot(x.base);
        rows.take(&self.value(slot)?)
    }

    fn expert_rows(&mut self, x: ExpertSite) -> Result<super::experts::Rows> {
        let (model, batch) = (self.model.clone(), self.batch.clone());
        let chosen = self.value(model.program.experts[x.group].chosen)?;
        rows_of(&chosen, x, &model, &batch)
    }

    /// A value for the user, who from now on holds it.
    pub fn read(&mut self, site: SiteId) -> Result<Array> {
        let slot = self.model.slot(site);
        self.touch(slot, false)?;
        let value = self.value(slot)?;
        self.mark_read(slot);
        Ok(value)
    }

    /// From now on nothing that the slot depends on may be written.
    pub fn mark_read(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self.handed[slot as usize], true) {
            self.handed_list.push(slot);
        }
    }

    /// Takes the explicit way past a slot that only it passes through, unless what it leads to is already out.
    fn touch(&mut self, slot: Slot, write: bool) -> Result<()> {
        if self.model.uses.inside(slot).is_empty() {
            return Ok(());
        }
        let model = self.model.clone();
        for d in model.uses.inside(slot) {
            let detour = &model.program.detours[*d as usize];
            if self.taken[*d as usize] || !(write || detour.on_read) {
                continue;
            }
            if let Some(seen) = self.seen_from(detour.slot) {
                if write {
                    return Err(self.stale(slot, seen));
                }
                // The fused kernel's result is out already: the inner value is worked out beside it.
                continue;
            }
            self.taken[*d as usize] = true;
            self.forget_from(detour.slot);
            self.forget(detour.slot);
        }
        Ok(())
    }

    /// Adds an edit at its slot. Everything after sees the new value; an error if some of it was handed out.
    pub fn write(&mut self, edit: Edit) -> Result<()> {
        let slot = self.model.slot(edit.site);
        let program = &self.model.program;
        if (slot as usize) < program.inputs.len() && !program.is_free(slot) {
            let name = self.model.slot_name(slot);
            bail!(InvalidArgument, "'{name}' is read-only: start another trace with other tokens");
        }
        self.touch(slot, true)?;
        if let Some(seen) = self.seen_from(slot) {
            return Err(self.stale(slot, seen));
        }
        let before = self.memo[slot as usize].clone();
        self.forget_from(slot);
        self.edited[slot as usize] = true;
        self.edits.push(edit);
        let number = self.edits.len() - 1;
        self.edits_at.entry(slot).or_default().push(number);
        if let Some(before) = before {
            // What was there, earlier edits applied: only the new one is left to do.
            match self.applied(number, &before) {
                Ok(v) => self.memo[slot as usize] = Some(v),
                Err(e) => {
                    self.unwrite(slot);
                    self.memo[slot as usize] = Some(before);
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Puts a value in a slot of a run that has built nothing yet: what is below is never asked for, not even its shape.
    pub fn begin_at(&mut self, site: SiteId, value: Array) {
        let slot = self.model.slot(site);
        let mut edit = Edit::new(Target::Site(site), Change::Value(value.clone()));
        edit.after = Some(value);
        self.edited[slot as usize] = true;
        self.memo[slot as usize] = edit.after.clone();
        self.edits.push(edit);
        self.edits_at.entry(slot).or_default().push(self.edits.len() - 1);
    }

    /// Takes the newest edit back: it turned out not to fit.
    pub fn unwrite(&mut self, slot: Slot) {
        self.edits.pop();
        if let Some(list) = self.edits_at.get_mut(&slot) {
            list.pop();
            if list.is_empty() {
                self.edited[slot as usize] = false;
                self.memo[slot as usize] = None;
            }
        }
    }

    fn stale(&self, slot: Slot, seen: Slot) -> crate::error::Error {
        let (written, read) = (self.model.slot_name(slot), self.model.slot_name(seen));
        err!(
            StaleWrite,
            "'{written}' cannot be changed any more: '{read}' depends on it and was already read; write first, or fork"
        )
    }

    /// A slot the user holds that depends on `slot`.
    fn seen_from(&self, slot: Slot) -> Option<Slot> {
        let place = self.model.uses.place(slot);
        if !self.handed_list.iter().any(|h| *h != slot && self.model.uses.place(*h) >= place) {
            return None;
        }
        let mut found = None;
        self.walk_from(slot, &mut |s| {
            if self.handed[s as usize] {
                found = Some(s);
            }
            found.is_some()
        });
        found
    }

    /// Visits every slot that depends on `slot` in this run, until `stop` says so.
    fn walk_from(&self, slot: Slot, stop: &mut dyn FnMut(Slot) -> bool) {
        let (program, uses) = (&self.model.program, &self.model.uses);
        let mut seen = vec![false; program.slots.len()];
        let mut stack = vec![slot];
        while let Some(s) = stack.pop() {
            if s != slot && stop(s) {
                return;
            }
            let mut push = |t: Slot| {
                if !std::mem::replace(&mut seen[t as usize], true) {
                    stack.push(t);
                }
            };
            for a in uses.aliases(s) {
                push(*a);
            }
            for i in uses.readers(s) {
                for o in &program.instrs[*i as usize].outputs {
                    // An instruction that is not this run's way to a slot makes nothing here.
                    if self.producer(*o) == Producer::Instr(*i) {
                        push(*o);
                    }
                }
            }
        }
    }

    /// Whether the value of `slot` goes into that of `other`.
    pub fn feeds(&self, slot: Slot, other: Slot) -> bool {
        let mut found = false;
        self.walk_from(slot, &mut |s| {
            found |= s == other;
            found
        });
        found
    }

    /// Forgets everything that depends on `slot`.
    fn forget_from(&mut self, slot: Slot) {
        if self.frontier < self.model.uses.place(slot) {
            return;
        }
        let mut gone = Vec::new();
        self.walk_from(slot, &mut |s| {
            gone.push(s);
            false
        });
        for s in gone {
            self.forget(s);
        }
    }

    /// Forgets one value, and what edits made of it.
    fn forget(&mut self, slot: Slot) {
        self.memo[slot as usize] = None;
        if let Producer::Instr(i) = self.producer(slot) {
            self.built[i as usize] = false;
            if let Some(kept) = &mut self.kept {
                kept[i as usize] = None;
            }
        }
        for e in self.edits_at.get(&slot).into_iter().flatten() {
            self.edits[*e].forget();
        }
    }

    /// Whether a later instruction of this run still needs the slot, or the user holds it.
    fn is_needed(&self, slot: Slot) -> bool {
        self.handed[slot as usize]
            || self.model.uses.any_reader(slot, &mut |i| {
                let instr = &self.model.program.instrs[i as usize];
                // Nobody asked what is remembered: the state before it need not wait.
                let idle = instr.op == Op::Remember && self.kept.is_none();
                !idle && !self.built[i as usize] && instr.outputs.iter().any(|o| self.is_on_the_way(*o, i))
            })
    }

    /// Whether instruction `i` makes `slot` in this run without anybody asking for an inner value.
    fn is_on_the_way(&self, slot: Slot, i: u32) -> bool {
        let inside = self.model.uses.inside(slot);
        self.producer(slot) == Producer::Instr(i)
            && (inside.is_empty() || inside.iter().any(|d| self.taken[*d as usize]))
    }

    /// Drops handles that nobody needs, so that evaluation can free their buffers as it goes.
    pub fn trim(&mut self) {
        if self.keep_all {
            return;
        }
        let gone: Vec<usize> = (0..self.memo.len())
            .filter(|s| {
                self.memo[*s].is_some() && !self.edited[*s] && !self.is_needed(*s as Slot) && !self.is_held(*s as Slot)
            })
            .collect();
        for s in gone {
            self.memo[s] = None;
            self.trimmed = true;
        }
    }

    /// Whether the user holds a slot under one of its names.
    fn is_held(&self, slot: Slot) -> bool {
        self.handed[slot as usize] || self.model.uses.aliases(slot).iter().any(|a| self.is_held(*a))
    }

    /// Whether anything the user holds depends on `slot`.
    pub fn reaches_the_user(&self, slot: Slot) -> bool {
        self.handed[slot as usize] || self.seen_from(slot).is_some()
    }

    /// Whether the user has read anything at all.
    pub fn was_read(&self) -> bool {
        !self.handed_list.is_empty()
    }
}
