//! A forward pass that is built lazily, can be stopped anywhere, changed, and goes on.
//!
//! Reads may come in any order and at any time; what nobody reads is never built, what nobody looks at is never
//! computed. Writes are seen by everything after them; a write behind a value that was already handed out is
//! [`StaleWrite`](crate::ErrorKind::StaleWrite).

mod attention;
mod batch;
mod cache;
mod edit;
mod experts;
mod forward;
mod gradient;
mod head;
mod kernels;
mod onward;
mod opaque;
mod options;
mod plan;
mod receipt;
mod recurrent;
mod route;
mod run;
mod special;
mod steer;

use std::sync::Arc;

pub use batch::Batch;
pub use cache::Cache;
pub(crate) use edit::fit;
use edit::{Change, Edit};
pub(crate) use forward::{Straight, forward};
pub use gradient::Gradients;
pub(crate) use head::{Head, Place, at_places, at_the_end};
pub use kernels::subscript;
pub use opaque::{Opaque, OpaqueCall};
pub use options::{Keep, TraceOptions};
pub use plan::PlannedSite;
pub(crate) use plan::plan;
pub use receipt::Receipt;
pub(crate) use route::{Passed, Route, between, from_linear};
use run::Run;
pub(crate) use steer::{Decided, Steer};

use crate::core::arch::tape::Index;
use crate::core::intervention::Intervention;
use crate::core::model::{Inner, Model, SiteId, Target};
use crate::core::tensor::{self, Array, BeforeEval, Gated, on_eval};
use crate::error::{Result, bail};

/// One forward pass of a model over one batch. Cloning shares the same run; [`Trace::fork`] makes a second one.
#[derive(Clone)]
pub struct Trace(Arc<State>);

struct State {
    model: Arc<Inner>,
    strict: bool,
    run: Gated<Run>,
}

impl BeforeEval for State {
    fn before_eval(&self) {
        // A run in the middle of a call (a hook that evaluates) keeps what it has until next time.
        let _ = self.run.with("the trace", |run| {
            run.trim();
            Ok(())
        });
    }
}

impl Trace {
    pub(crate) fn start(model: &Model, batch: Batch, options: &TraceOptions) -> Result<Self> {
        let interventions = options.interventions.iter();
        let steers: Vec<Steer> = interventions.map(|(pattern, i)| Steer::always(pattern, i)).collect();
        Self::start_with(model, batch, options, &steers)
    }

    /// Starts a trace with these changes in place of those of the options: each may hang on a condition.
    pub(crate) fn start_with(model: &Model, batch: Batch, options: &TraceOptions, steers: &[Steer]) -> Result<Self> {
        let mut batch = batch;
        if let Some(cache) = &options.cache {
            cache.check(model.inner())?;
            if model.program().looks_ahead() {
                bail!(
                    Unsupported,
                    "'{}' reads texts as a whole: what it makes of a token changes with those that follow, so nothing can be \
                     continued from a cache. Trace the whole text without one",
                    model.inner().name
                );
            }
            batch = batch.after(cache, model.context_length())?;
        }
        let cache = options.cache.clone();
        let mut run = Run::new(model.inner().clone(), Arc::new(batch), options.keep == Keep::All, cache);
        run.step = options.step;
        let trace = Self::wrap(model.inner().clone(), options.strict, run);
        let mut edits = Vec::new();
        for steer in steers {
            for target in model.sites().targets(&steer.pattern)? {
                edits.push((target, steer));
            }
        }
        // In execution order (a stable sort keeps the given order at one site), so that nothing is built twice.
        edits.sort_by_key(|(target, _)| model.inner().uses.place(model.inner().slot(target.site())));
        for (target, steer) in edits {
            if let Some(gate) = trace.gate_of(steer, target)? {
                trace.write_edit(Edit::new(target, Change::Intervention(steer.intervention.clone())).only_if(gate))?;
            }
        }
        Ok(trace)
    }

    fn wrap(model: Arc<Inner>, strict: bool, run: Run) -> Self {
        let state = Arc::new(State { model, strict, run: Gated::new(run) });
        let listener: std::sync::Weak<dyn BeforeEval> = Arc::downgrade(&(state.clone() as Arc<dyn BeforeEval>));
        on_eval(listener);
        Trace(state)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Run) -> Result<R>) -> Result<R> {
        self.0.run.with("the trace", f)
    }

    /// The model it runs.
    pub fn model(&self) -> Model {
        Model::from_inner(self.0.model.clone())
    }

    /// The tokens it runs over.
    pub fn batch(&self) -> Result<Arc<Batch>> {
        self.with(|run| Ok(run.batch.clone()))
    }

    /// Which step of a generation it is; 0 in a plain forward.
    pub fn step(&self) -> Result<usize> {
        self.with(|run| Ok(run.step))
    }

    /// The value of a site, lazily: its graph is built as far as need be, nothing is computed.
    ///
    /// A single expert's value (`layers.3.mlp.experts.7.output`) has a row for each token that was routed to it, so the
    /// routing itself is computed.
    pub fn get(&self, site: &str) -> Result<Array> {
        match self.0.model.sites.target(site)? {
            Target::Site(site) => self.read(site),
            Target::Expert(x) => self.with(|run| run.read_expert(x)),
        }
    }

    /// The value of a site by number.
    pub fn read(&self, site: SiteId) -> Result<Array> {
        self.with(|run| run.read(site))
    }

    /// The final logits `[batch, position, vocabulary]`.
    pub fn output(&self) -> Result<Array> {
        self.get("output")
    }

    /// Puts a value in a site's place; everything after sees it. It keeps the site's dtype and must broadcast to its shape.
    pub fn set(&self, site: &str, value: &Array) -> Result<()> {
        self.edit(self.0.model.sites.target(site)?, Change::Value(value.clone()))
    }

    /// [`Trace::set`] by site number.
    pub fn write(&self, site: SiteId, value: &Array) -> Result<()> {
        self.edit(Target::Site(site), Change::Value(value.clone()))
    }

    /// Puts a value in part of a site's place: numpy's basic subscripts.
    pub fn set_at(&self, site: &str, at: &[Index], value: &Array) -> Result<()> {
        let target = self.0.model.sites.target(site)?;
        let old = self.with(|run| match target {
            Target::Site(site) => {
                let slot = run.model.slot(site);
                run.value(slot)
            }
            Target::Expert(x) => run.expert_value(x),
        })?;
        self.edit(target, Change::Value(update(&old, at, value)?))
    }

    /// Applies an intervention to every site that a name or pattern means.
    pub fn intervene(&self, pattern: &str, intervention: Intervention) -> Result<()> {
        let intervention = Arc::new(intervention);
        for target in self.0.model.sites.targets(pattern)? {
            self.edit(target, Change::Intervention(intervention.clone()))?;
        }
        Ok(())
    }

    fn edit(&self, target: Target, change: Change) -> Result<()> {
        self.write_edit(Edit::new(target, change))
    }

    fn write_edit(&self, edit: Edit) -> Result<()> {
        self.with(|run| {
            let slot = run.model.slot(edit.site);
            run.write(edit)?;
            // Built at once, so that what does not fit is an error here and not at some later read.
            run.value(slot).map(drop).inspect_err(|_| run.unwrite(slot))
        })
    }

    /// A second continuation that shares everything built so far. In it anything may be written.
    pub fn fork(&self) -> Result<Trace> {
        let run = self.with(|run| Ok(run.fork()))?;
        Ok(Self::wrap(self.0.model.clone(), self.0.strict, run))
    }

    /// A fork whose batch is this one's `n` times over (row `i` continues row `i % rows`): `n` forks of one point as
    /// rows of one batch, with what was built so far shared by all of them.
    pub fn fork_rows(&self, n: usize) -> Result<Trace> {
        if n == 0 {
            bail!(InvalidArgument, "fork_rows(0): a batch needs at least one row");
        }
        let run = self.with(|run| run.fork_rows(n))?;
        Ok(Self::wrap(self.0.model.clone(), self.0.strict, run))
    }

    /// What the model remembers after this trace's tokens, edits included, lazily: start the next trace with it. The
    /// trace must have been started with a cache, an empty one for a first step.
    pub fn cache(&self) -> Result<Cache> {
        self.with(|run| run.cache(None))
    }

    /// Puts a value in a site of a trace of which nothing was built yet, as the run below would have made it: what is below
    /// is never built, so nothing is checked.
    pub(crate) fn begin_at(&self, site: SiteId, value: &Array) -> Result<()> {
        self.with(|run| {
            run.begin_at(site, value.clone());
            Ok(())
        })
    }

    /// [`Trace::cache`] with what some instructions remember only.
    pub(crate) fn cache_of(&self, wanted: &[u32]) -> Result<Cache> {
        self.with(|run| run.cache(Some(wanted)))
    }

    /// One receipt a write: what it changed and whether anything read depends on it. Evaluates the norms.
    pub fn receipts(&self) -> Result<Vec<Receipt>> {
        let (edits, reached, batch, step) = self.with(|run| {
            let reached: Vec<bool> = run.edits.iter().map(|e| run.reaches_the_user(run.model.slot(e.site))).collect();
            Ok((run.edits.clone(), reached, run.batch.clone(), run.step))
        })?;
        receipt::write_out(&edits, &reached, &batch, &self.0.model, step)
    }

    /// Ends the block. A strict trace refuses a write that changed nothing, or that nothing read depends on.
    pub fn finish(&self) -> Result<()> {
        if !self.0.strict {
            return Ok(());
        }
        let read = self.with(|run| Ok(run.was_read()))?;
        for r in self.receipts()? {
            if r.change_norm == 0.0 {
                bail!(Strict, "the write to '{}' ({}) changed nothing", r.site, r.change);
            }
            if read && !r.reached {
                bail!(
                    Strict,
                    "the write to '{}' ({}) reached nothing: no value that was read depends on it",
                    r.site,
                    r.change
                );
            }
        }
        Ok(())
    }
}

/// `old` with `value` at the subscripts: one slice update, nothing computed.
pub fn update(old: &Array, at: &[Index], value: &Array) -> Result<Array> {
    let (start, stop, step) = kernels::bounds(old, at)?;
    let part = tensor::slice(old, &start, &stop, &step)?;
    // The value has the subscripted shape; the update wants every axis.
    let target = subscript(old, at)?;
    let value = fit(value, &target)?;
    tensor::slice_update(old, &tensor::reshape(&value, part.shape())?, &start, &stop, &step)
}
