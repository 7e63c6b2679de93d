//! What every site would be for a given input, without computing anything.

use std::sync::Arc;

use serde::Serialize;

use super::batch::Batch;
use super::run::Run;
use crate::core::model::Inner;
use crate::error::Result;

/// A site as it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedSite {
    /// Full name (`model.layers.3.self_attn.output`).
    pub name: String,
    /// Short standard name where it has one (`layers.3.attn.output`).
    pub standard: Option<String>,
    /// Shape, batch first.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: &'static str,
    /// Made only when somebody asks.
    pub on_touch: bool,
}

/// Builds the lazy graph once and reads shapes and dtypes off it.
pub(crate) fn plan(model: &Arc<Inner>, batch: Batch) -> Result<Vec<PlannedSite>> {
    let mut run = Run::new(model.clone(), Arc::new(batch), true, None);
    let mut sites = Vec::new();
    for (site, (name, hook)) in model.program.hooks.iter().enumerate() {
        let value = run.value(hook.slot)?;
        sites.push(PlannedSite {
            name: name.clone(),
            standard: model.sites.standard_name(site),
            shape: value.dims(),
            dtype: value.dtype().name(),
            on_touch: hook.on_touch,
        });
    }
    Ok(sites)
}
