//! Mixtures of experts, and the other operations that choose.

use super::ops::Args;
use super::slots::SlotInfo;
use super::value::{Given, Module, Value};
use super::{Elaborator, Scope, Step};
use crate::core::arch::place::Pos;
use crate::core::arch::tape::{Choice, Experts, Layout, Op, Producer, Slot};
use crate::error::{ErrorKind, Result};

/// Most experts, keys or rows that one choice may be of.
const MAX_CHOICES: i64 = 1 << 20;

impl Elaborator<'_> {
    /// `gate_proj(x, idx)`: a linear whose matrix each token chooses.
    pub(super) fn switch(&mut self, m: &Module, x: Slot, given: &Given<'_>, scope: &Scope, pos: Pos) -> Result<Value> {
        let chosen = match given.positional.get(1) {
            Some(Value::Slot(s)) => *s,
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), Value::shown);
                let message =
                    format!("'{}' (switch) needs the chosen experts as second argument, found {found}", m.path);
                return Err(scope.source.error(pos, message));
            }
        };
        let weights = self.weights(&m.path, &m.path, "switch", scope, pos)?;
        let shape = self.shape(weights.weight).to_vec();
        let [count, rows, columns] = shape[..] else {
            let message = format!("'{}.weight' has shape {shape:?}, a switch needs [experts, rows, columns]", m.path);
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        };
        if let (Some(width), None) = (self.info[x as usize].width, weights.scales)
            && width != columns
        {
            let message = format!("'{}.weight' has shape {shape:?}, but its input has {width} features", m.path);
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        }
        if let Some(choices) = self.info[chosen as usize].below
            && choices > count
        {
            let message = format!("'{}.weight' holds {count} experts, but the router chooses among {choices}", m.path);
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        }
        let bounded = self.info[chosen as usize].below.is_some();
        self.bound(chosen, count);
        if !self.program.experts.iter().any(|e| e.path == scope.path) {
            self.program.experts.push(Experts { path: scope.path.clone(), chosen, count });
        }
        let step = Step { op: Op::Switch { weights, bounded }, inputs: vec![x, chosen] };
        let info = SlotInfo::of(Layout::Experts).width(Some(rows));
        Ok(Value::Slot(self.emit(step, vec![info], &m.path, scope, pos)?[0]))
    }

    /// Notes that a slot's numbers, whatever names it has, choose among `count`.
    fn bound(&mut self, mut slot: Slot, count: usize) {
        loop {
            let least = self.program.bounds.entry(slot).or_insert(count);
            *least = count.min(*least);
            match self.program.slots[slot as usize] {
                Producer::Alias(of) => slot = of,
                _ => break,
            }
        }
    }

    /// The operations of [`Choice`].
    pub(super) fn choosing(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let slot = |this: &Self, name: &str| this.slot_of(a, name, scope);
        let other = SlotInfo::of(Layout::Other);
        match a.name {
            "top_k" => self.top_k(a, scope),
            "sparsemixer" => self.sparse_mixer(a, scope),
            "combine" => {
                let (y, w) = (slot(self, "y")?, slot(self, "w")?);
                let info = SlotInfo::of(Layout::Hidden).width(self.info[y as usize].width);
                self.single(Op::Choice(Choice::Combine), vec![y, w], info, scope, a.pos)
            }
            "take" | "gather" => {
                let (x, idx) = (slot(self, "x")?, slot(self, "idx")?);
                let of_rows = a.name == "gather";
                let info = match (of_rows, self.info[idx as usize].layout) {
                    (false, layout) => SlotInfo::of(layout).width(self.info[idx as usize].width),
                    (true, Layout::Tokens) => SlotInfo::of(Layout::Hidden).width(self.info[x as usize].width),
                    (true, _) => other,
                };
                let op = if of_rows { Choice::Gather } else { Choice::Take };
                self.single(Op::Choice(op), vec![x, idx], info, scope, a.pos)
            }
            "put" => {
                let inputs = vec![slot(self, "x")?, slot(self, "idx")?, slot(self, "values")?];
                let info = self.info[inputs[0] as usize].changed();
                self.single(Op::Choice(Choice::Put), inputs, info, scope, a.pos)
            }
            "argmax" => self.single(Op::Choice(Choice::ArgMax), vec![slot(self, "x")?], other, scope, a.pos),
            "zeros_like" => {
                let x = slot(self, "x")?;
                let info = self.info[x as usize].changed();
                self.single(Op::Choice(Choice::ZerosLike), vec![x], info, scope, a.pos)
            }
            "topk_mask" => {
                let s = slot(self, "s")?;
                let k = self.count_of(a, "k", MAX_CHOICES, scope)?;
                self.single(Op::Choice(Choice::TopKMask { k }), vec![s], SlotInfo::of(Layout::Scores), scope, a.pos)
            }
            "mask_ids" => self.mask_ids(a, scope),
            _ => {
                let inputs = vec![slot(self, "q")?, slot(self, "k")?];
                let whole = |name: &str| self.count_of(a, name, MAX_CHOICES, scope);
                let (block, local, stride) = (whole("block")?, whole("local")?, whole("stride")?);
                let op = Op::Choice(Choice::BlockSparse { block, local, stride });
                self.single(op, inputs, SlotInfo::of(Layout::Scores), scope, a.pos)
            }
        }
    }

    /// A positive whole number.
    fn count_of(&self, a: &Args<'_>, name: &str, most: i64, scope: &Scope) -> Result<usize> {
        let given = a.get(name).cloned().unwrap_or(Value::None);
        match given.integer() {
            Some(n) if (1..=most).contains(&n) => Ok(n as usize),
            _ => {
                let message = format!(
                    "'{name}' of '{}' must be a whole number from 1 to {most}, found {}",
                    a.name,
                    given.shown()
                );
                Err(self.wrong(a, name, scope, message))
            }
        }
    }

    fn optional_count(&self, a: &Args<'_>, name: &str, otherwise: usize, scope: &Scope) -> Result<usize> {
        match a.get(name) {
            None | Some(Value::None) => Ok(otherwise),
            Some(_) => self.count_of(a, name, MAX_CHOICES, scope),
        }
    }

    /// `idx, picked = top_k(s, k, …)`. `picked` is a step of its own, so that it follows a changed choice.
    fn top_k(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let s = self.slot_of(a, "s", scope)?;
        let width = self.info[s as usize].width;
        let most = width.map_or(MAX_CHOICES, |w| w as i64);
        let k = self.count_of(a, "k", most, scope)?;
        let groups = self.optional_count(a, "groups", 1, scope)?;
        let keep = self.optional_count(a, "keep", groups, scope)?;
        if keep > groups || width.is_some_and(|w| w % groups != 0) {
            let of = width.map_or_else(String::new, |w| format!(" of {w} scores"));
            return Err(self.wrong(a, "groups", scope, format!("'top_k' cannot keep {keep} of {groups} groups{of}")));
        }
        if width.is_some_and(|w| k > w / groups * keep) {
            let message = format!("'top_k' cannot choose {k} from {keep} of {groups} groups of scores");
            return Err(self.wrong(a, "k", scope, message));
        }
        let by_best = match a.get("group_score") {
            None => false,
            Some(Value::Text(t)) if &**t == "top2" => false,
            Some(Value::Text(t)) if &**t == "max" => true,
            Some(other) => {
                let message = format!("'group_score' of 'top_k' must be 'max' or 'top2', found {}", other.shown());
                return Err(self.wrong(a, "group_score", scope, message));
            }
        };
        // Groups left out take no part, unless a model says that they count as a number.
        let fill = self.number_of(a, "fill", scope)?.unwrap_or(f64::NEG_INFINITY);
        let mut inputs = vec![s];
        if !matches!(a.get("by"), None | Some(Value::None)) {
            inputs.push(self.slot_of(a, "by", scope)?);
        }
        let path = scope.path.clone();
        let step = Step { op: Op::Choice(Choice::TopK { k, groups, keep, by_best, fill }), inputs };
        let mut info = SlotInfo::of(self.info[s as usize].layout).width(Some(k));
        info.below = width;
        let idx = self.emit(step, vec![info.clone()], &path, scope, a.pos)?[0];
        if let Some(w) = width {
            self.bound(idx, w);
        }
        info.below = None;
        let take = Step { op: Op::Choice(Choice::Take), inputs: vec![s, idx] };
        let picked = self.emit(take, vec![info], &path, scope, a.pos)?[0];
        Ok(Value::list(vec![Value::Slot(idx), Value::Slot(picked)]))
    }

    fn sparse_mixer(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let s = self.slot_of(a, "s", scope)?;
        let width = self.info[s as usize].width;
        let k = self.count_of(a, "k", width.map_or(64, |w| w.min(64) as i64), scope)?;
        let jitter = self.number_of(a, "jitter", scope)?.unwrap_or(0.0);
        let path = scope.path.clone();
        let step = Step { op: Op::Choice(Choice::SparseMixer { k, jitter }), inputs: vec![s] };
        let weights = SlotInfo::of(self.info[s as usize].layout).width(Some(k));
        let mut idx = weights.clone();
        idx.below = width;
        let slots = self.emit(step, vec![idx, weights], &path, scope, a.pos)?;
        if let Some(w) = width {
            self.bound(slots[0], w);
        }
        Ok(Value::list(slots.into_iter().map(Value::Slot).collect()))
    }

    /// `mask_ids(x, ids, start, stop)`: the listed numbers and those from `start` up to `stop`.
    fn mask_ids(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let x = self.slot_of(a, "x", scope)?;
        let whole = |name: &str| Ok(usize::try_from(self.whole_of(a, name, 0, scope)?).unwrap_or(0));
        let (start, stop) = (whole("start")?, whole("stop")?);
        let listed = match a.get("ids") {
            Some(Value::List(l)) => l.iter().map(|v| v.integer().and_then(|i| usize::try_from(i).ok())).collect(),
            _ => None,
        };
        let Some(mut ids): Option<Vec<usize>> = listed.filter(|_| stop.saturating_sub(start) <= 1 << 16) else {
            return Err(self.wrong(a, "ids", scope, "'mask_ids' needs a list of numbers of features".to_owned()));
        };
        ids.extend(start..stop);
        ids.sort_unstable();
        ids.dedup();
        let info = self.info[x as usize].changed();
        self.single(Op::Choice(Choice::MaskIds(ids)), vec![x], info, scope, a.pos)
    }
}
