//! A change at one site, remembered with what it did.

use std::sync::Arc;

use super::experts::rows_of;
use crate::core::arch::tape::Slot;
use crate::core::intervention::{Condition, Intervention, Scene};
use crate::core::model::{ExpertSite, Inner, SiteId, Target};
use crate::core::tensor::{self, Array};
use crate::core::trace::Batch;
use crate::error::{Result, bail};

/// What an edit puts in the place of the old value.
#[derive(Clone)]
pub(crate) enum Change {
    /// This value.
    Value(Array),
    /// What an intervention makes of the old value.
    Intervention(Arc<Intervention>),
}

/// What decides, row by row, whether an edit is made.
#[derive(Clone)]
pub(crate) struct RowGate {
    pub condition: Arc<Condition>,
    pub met: Met,
}

/// Where the answer comes from.
#[derive(Clone)]
pub(crate) enum Met {
    /// The probed slot of this run, which feeds the edited one.
    Probe(Slot),
    /// The value that is about to be edited.
    Old,
    /// `[row]`, bool: the answer of an earlier run.
    Rows(Array),
}

/// One write. `base` and `after` are there once the site was built.
#[derive(Clone)]
pub(crate) struct Edit {
    pub site: SiteId,
    /// Only what this expert made of the site's value.
    pub expert: Option<ExpertSite>,
    pub change: Change,
    /// Only in rows that meet a condition.
    pub gate: Option<RowGate>,
    pub base: Option<Array>,
    pub after: Option<Array>,
}

impl Edit {
    pub fn new(target: Target, change: Change) -> Self {
        let (site, expert) = match target {
            Target::Site(site) => (site, None),
            Target::Expert(x) => (x.base, Some(x)),
        };
        Self { site, expert, change, gate: None, base: None, after: None }
    }

    /// The same, only in rows that meet a condition.
    pub fn only_if(mut self, gate: Option<RowGate>) -> Self {
        self.gate = gate;
        self
    }

    /// What people call the place of the write.
    pub fn name(&self, model: &Inner) -> String {
        match self.expert {
            Some(x) => model.sites.expert_name(x),
            None => model.slot_name(model.slot(self.site)),
        }
    }

    /// The new value of the site, kept so that a replay does not ask a callback twice.
    pub fn apply(&mut self, old: &Array, around: &Around<'_>) -> Result<Array> {
        let Around { model, batch, step, chosen, probed } = *around;
        let name = self.name(model);
        let new = match (&self.change, self.expert.zip(chosen)) {
            (Change::Value(value), None) => fit(value, old).map_err(|e| e.context(format!("'{name}'")))?,
            (Change::Value(value), Some((x, chosen))) => {
                let rows = rows_of(chosen, x, model, batch)?;
                rows.put(old, value).map_err(|e| e.context(format!("'{name}'")))?
            }
            (Change::Intervention(intervention), of_expert) => {
                let scene =
                    Scene { site: &name, site_number: self.site as u64, layout: model.layout(self.site), step, batch };
                let new = intervention.apply(old, &scene)?;
                match of_expert {
                    None => new,
                    Some((x, chosen)) => {
                        let number = tensor::cast(&Array::from_slice(&[x.expert as u32], &[])?, chosen.dtype())?;
                        let mut mask = tensor::equal(chosen, &number)?;
                        while mask.ndim() < old.ndim() {
                            mask = tensor::expand_dims(&mask, -1)?;
                        }
                        tensor::select(&mask, &new, old)?
                    }
                }
            }
        };
        let new = match &self.gate {
            None => new,
            Some(gate) => {
                let met = match &gate.met {
                    Met::Probe(_) => gate.condition.mask(probed.unwrap_or(old), batch.lengths())?,
                    Met::Old => gate.condition.mask(old, batch.lengths())?,
                    Met::Rows(rows) => rows.clone(),
                };
                in_rows(&met, &new, old).map_err(|e| e.context(format!("'{name}'")))?
            }
        };
        self.base = Some(old.clone());
        self.after = Some(new.clone());
        Ok(new)
    }

    /// Forgets what it did: the value it changes is about to be another.
    pub fn forget(&mut self) {
        self.base = None;
        self.after = None;
    }

    /// Whether it speaks of single rows of the batch.
    pub fn names_rows(&self) -> bool {
        match &self.change {
            Change::Intervention(i) => i.names_rows(),
            // The rows of an expert are those of this batch's routing.
            Change::Value(_) => self.expert.is_some(),
        }
    }

    /// Replaces every array it holds.
    pub fn each_array(&mut self, f: impl Fn(&Array) -> Result<Array>) -> Result<()> {
        if let Change::Value(value) = &mut self.change {
            *value = f(value)?;
        }
        if let Some(RowGate { met: Met::Rows(rows), .. }) = &mut self.gate {
            *rows = f(rows)?;
        }
        for kept in [&mut self.base, &mut self.after] {
            *kept = kept.take().map(|a| f(&a)).transpose()?;
        }
        Ok(())
    }
}

/// What an edit looks at besides the value it changes.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub model: &'a Inner,
    pub batch: &'a Batch,
    /// Generation step.
    pub step: usize,
    /// The experts of the site's module, where only one of them is meant.
    pub chosen: Option<&'a Array>,
    /// The value of the slot that the edit's gate probes.
    pub probed: Option<&'a Array>,
}

/// `new` in the rows that are marked, `old` in the others.
fn in_rows(met: &Array, new: &Array, old: &Array) -> Result<Array> {
    if old.ndim() == 0 || old.dim(0) != met.dim(0) {
        bail!(Shape, "its shape {:?} has no axis of rows, so no condition can be kept for each row", old.shape());
    }
    let mut shape = vec![1; old.ndim()];
    shape[0] = met.dim(0) as i32;
    tensor::select(&tensor::reshape(met, &shape)?, new, old)
}

/// A written value in the site's dtype and shape: a write keeps both.
pub(crate) fn fit(value: &Array, old: &Array) -> Result<Array> {
    let value = tensor::cast(value, old.dtype())?;
    if value.shape() == old.shape() {
        return Ok(value);
    }
    let fits = value.ndim() <= old.ndim()
        && value.shape().iter().rev().zip(old.shape().iter().rev()).all(|(v, o)| v == o || *v == 1);
    if !fits {
        bail!(
            Shape,
            "a value of shape {:?} does not fit the site's shape {:?}: it must be equal or broadcast to it",
            value.shape(),
            old.shape()
        );
    }
    tensor::broadcast_to(&value, old.shape())
}
