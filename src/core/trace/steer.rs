//! Changes that a trace is started with, and the conditions they hang on.

use std::sync::Arc;

use super::Trace;
use super::edit::{Met, RowGate};
use crate::core::intervention::{Condition, Intervention};
use crate::core::model::Target;
use crate::core::tensor::Array;
use crate::error::Result;

/// One change, of every site that its pattern means.
pub(crate) struct Steer {
    pub pattern: String,
    pub intervention: Arc<Intervention>,
    /// Only in rows that meet it.
    pub condition: Option<Decided>,
}

/// A condition, with what the step before said of it.
pub(crate) struct Decided {
    pub condition: Arc<Condition>,
    /// `[row]`, bool, of the step before; none in a first step.
    pub before: Option<Array>,
}

impl Steer {
    /// Without a condition.
    pub fn always(pattern: &str, intervention: &Intervention) -> Self {
        Self { pattern: pattern.to_owned(), intervention: Arc::new(intervention.clone()), condition: None }
    }
}

impl Trace {
    /// What decides over a change at a site: nothing, a probe of this run where it feeds the site, else what the step
    /// before said. `None` when the change is not to be made at all: there was no step before.
    pub(super) fn gate_of(&self, steer: &Steer, target: Target) -> Result<Option<Option<RowGate>>> {
        let Some(Decided { condition, before }) = &steer.condition else { return Ok(Some(None)) };
        let met = match (self.probe_for(condition, target)?, before) {
            (Some(met), _) => met,
            (None, Some(rows)) => Met::Rows(rows.clone()),
            (None, None) => return Ok(None),
        };
        Ok(Some(Some(RowGate { condition: condition.clone(), met })))
    }

    /// Whether the probe of this very run can decide over a change at a site.
    pub(crate) fn decides_itself(&self, condition: &Condition, target: Target) -> Result<bool> {
        Ok(self.probe_for(condition, target)?.is_some())
    }

    fn probe_for(&self, condition: &Condition, target: Target) -> Result<Option<Met>> {
        let site = self.0.model.sites.resolve(&condition.site)?;
        self.with(|run| {
            let (probed, edited) = (run.model.slot(site), run.model.slot(target.site()));
            Ok(if run.model.program.source(probed) == run.model.program.source(edited) {
                Some(Met::Old)
            } else {
                run.feeds(probed, edited).then_some(Met::Probe(probed))
            })
        })
    }

    /// Which rows meet a condition here: `[row]`, bool, lazily. Hands nothing out.
    pub(crate) fn meets(&self, condition: &Condition) -> Result<Array> {
        let site = self.0.model.sites.resolve(&condition.site)?;
        self.with(|run| {
            let slot = run.model.slot(site);
            let value = run.value(slot)?;
            condition.mask(&value, run.batch.lengths())
        })
    }
}
