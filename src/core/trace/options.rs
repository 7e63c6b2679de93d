//! How a trace is to run.

use super::Cache;
use crate::core::intervention::Intervention;

/// What a trace keeps while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// What was read, saved or written; a later read of anything else replays the run, once.
    #[default]
    Read,
    /// Every value from the start.
    All,
}

/// Options of a trace.
#[derive(Clone, Debug, Default)]
pub struct TraceOptions {
    /// Interventions by site or pattern, applied in this order, once.
    pub interventions: Vec<(String, Intervention)>,
    /// What is kept.
    pub keep: Keep,
    /// Whether a write that changes or reaches nothing is an error at the end of the block.
    pub strict: bool,
    /// What was seen before these tokens ([`Cache::default`]: nothing). With it, [`Trace::cache`](super::Trace::cache)
    /// gives the state after them; without it nothing is remembered.
    pub cache: Option<Cache>,
    /// Which step of a generation it is, for receipts and hooks; 0 in a plain forward.
    pub step: usize,
}

impl TraceOptions {
    /// With one more intervention.
    pub fn with(mut self, pattern: impl Into<String>, intervention: Intervention) -> Self {
        self.interventions.push((pattern.into(), intervention));
        self
    }

    /// Continuing after what `cache` has seen.
    pub fn after(mut self, cache: &Cache) -> Self {
        self.cache = Some(cache.clone());
        self
    }
}
