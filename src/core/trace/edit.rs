//! A change at one site, remembered with what it did.

use std::sync::Arc;

use crate::core::intervention::{Intervention, Scene};
use crate::core::model::{Inner, SiteId};
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

/// One write. `base` and `after` are there once the site was built.
#[derive(Clone)]
pub(crate) struct Edit {
    pub site: SiteId,
    pub change: Change,
    pub base: Option<Array>,
    pub after: Option<Array>,
}

impl Edit {
    pub fn new(site: SiteId, change: Change) -> Self {
        Self { site, change, base: None, after: None }
    }

    /// The new value of the site, kept so that a replay does not ask a callback twice.
    pub fn apply(&mut self, old: &Array, model: &Inner, batch: &Batch) -> Result<Array> {
        let slot = model.slot(self.site);
        let new = match &self.change {
            Change::Value(value) => fit(value, old).map_err(|e| e.context(format!("'{}'", model.slot_name(slot))))?,
            Change::Intervention(intervention) => {
                let name = model.slot_name(slot);
                let scene =
                    Scene { site: &name, site_number: self.site as u64, layout: model.layout(self.site), batch };
                intervention.apply(old, &scene)?
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
        matches!(&self.change, Change::Intervention(i) if i.names_rows())
    }

    /// Replaces every array it holds.
    pub fn each_array(&mut self, f: impl Fn(&Array) -> Result<Array>) -> Result<()> {
        if let Change::Value(value) = &mut self.change {
            *value = f(value)?;
        }
        for kept in [&mut self.base, &mut self.after] {
            *kept = kept.take().map(|a| f(&a)).transpose()?;
        }
        Ok(())
    }
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
