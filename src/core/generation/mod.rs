//! Generation: step by step, each step a trace.
//!
//! Step 0 runs over the prompts, each later step over the token that every row drew in the one before, with what the
//! model remembers in front. A step may be read and written until its tokens are drawn, which happens when they are
//! asked for or when the next step is. Rows that ended take part with length 0: they are seen by nobody, remember
//! nothing and cost no context.

mod chat;
mod options;
mod row;
mod sampling;
mod step;
mod stop;

use std::sync::{Arc, OnceLock};

pub use options::{GenerateOptions, OnStep, Steering, When};
pub use row::{Completion, Drawn, Finish};
use row::{Ends, Row};
pub use sampling::Sampling;
use step::Draw;
pub use step::Step;

use crate::core::intervention::{Condition, Intervention};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype, Gated};
use crate::core::trace::{Batch, Cache, Decided, Steer, Trace, TraceOptions};
use crate::error::{Result, bail};

/// A generation under way: an iterator of its steps. Cloning shares it; it may be used from any thread.
#[derive(Clone)]
pub struct Generation(Arc<Shared>);

struct Shared {
    model: Model,
    options: GenerateOptions,
    steering: Vec<Prepared>,
    ends: Ends,
    state: Gated<State>,
}

/// A steering whose parts are shared by all steps.
struct Prepared {
    pattern: String,
    intervention: Arc<Intervention>,
    condition: Option<Arc<Condition>>,
    when: When,
}

struct State {
    rows: Vec<Row>,
    /// What the next step runs over; none once every row has ended.
    next: Option<Batch>,
    number: usize,
    cache: Cache,
    /// What the last step said of each steering's condition.
    met: Vec<Option<Array>>,
    /// A step whose tokens were not drawn yet.
    current: Option<(usize, Trace, Draw)>,
}

impl Model {
    /// Starts a generation from prompts. Nothing is computed before its first step is drawn.
    pub fn generate(&self, prompts: impl Into<Prompts>, options: &GenerateOptions) -> Result<Generation> {
        self.generate_batch(self.batch(prompts)?, options)
    }

    /// [`Model::generate`] from tokens that [`Model::batch`] or [`Model::chat`] checked.
    pub fn generate_batch(&self, batch: Batch, options: &GenerateOptions) -> Result<Generation> {
        options.check(self)?;
        if !batch.is_tokens() {
            bail!(Unsupported, "only models that read tokens generate; this one takes arrays");
        }
        let tokenizer = self.tokenizer().ok();
        let eos = match &options.eos {
            Some(ids) => ids.iter().copied().collect(),
            None => tokenizer.map(|t| t.eos_ids().clone()).unwrap_or_default(),
        };
        let steering = options.steering.iter().map(|s| Prepared {
            pattern: s.pattern.clone(),
            intervention: Arc::new(s.intervention.clone()),
            condition: s.condition.clone().map(Arc::new),
            when: s.when,
        });
        let rows = batch.rows().iter().map(|prompt| Row::new(prompt, tokenizer)).collect::<Result<_>>()?;
        let state = State {
            rows,
            next: Some(batch),
            number: 0,
            cache: Cache::default(),
            met: vec![None; options.steering.len()],
            current: None,
        };
        Ok(Generation(Arc::new(Shared {
            model: self.clone(),
            steering: steering.collect(),
            ends: Ends { max_tokens: options.max_tokens, stop: options.stop.clone(), eos },
            options: options.clone(),
            state: Gated::new(state),
        })))
    }
}

impl Iterator for Generation {
    type Item = Result<Step>;

    /// Draws the tokens of the step before, if nobody has, and begins the next. Nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Generation {
    /// The next step, or none when every row has ended. Draws the tokens of the step before, if nobody has.
    pub fn advance(&self) -> Result<Option<Step>> {
        let begun = self.with(|s| {
            self.draw_current(s)?;
            self.begin(s)
        });
        let step = self.or_end(begun)?;
        if let (Some(step), Some(tell)) = (&step, &self.0.options.on_step) {
            let told = tell.call(step);
            self.or_end(told)?;
        }
        Ok(step)
    }

    /// Runs to the end: every row, in the order of the prompts.
    pub fn run(&self) -> Result<Vec<Completion>> {
        while self.advance()?.is_some() {}
        self.rows()
    }

    /// Every row as far as it has come, in the order of the prompts.
    pub fn rows(&self) -> Result<Vec<Completion>> {
        self.with(|s| Ok(s.rows.iter().map(|r| r.completion.clone()).collect()))
    }

    /// Whether no step will follow: every row has ended, or an error ended the generation.
    pub fn is_done(&self) -> Result<bool> {
        self.with(|s| Ok(s.next.is_none() && s.current.is_none()))
    }

    /// What the model remembers of the prompts and the tokens that were run so far; the tokens drawn last are not among
    /// them.
    pub fn cache(&self) -> Result<Cache> {
        self.with(|s| Ok(s.cache.clone()))
    }

    /// The model that generates.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        self.0.state.with("the generation", f)
    }

    /// An error ends the generation: what came of it so far can still be asked for.
    fn or_end<R>(&self, result: Result<R>) -> Result<R> {
        result.inspect_err(|e| {
            if e.kind() != crate::error::ErrorKind::Busy {
                let _ = self.with(|s| {
                    (s.next, s.current) = (None, None);
                    Ok(())
                });
            }
        })
    }

    /// Draws the tokens of step `number` if it is the one that waits for it.
    fn draw_step(&self, number: usize) -> Result<()> {
        let drawn = self.with(|s| match &s.current {
            Some((waiting, ..)) if *waiting == number => self.draw_current(s),
            _ => Ok(()),
        });
        self.or_end(drawn)
    }

    fn begin(&self, s: &mut State) -> Result<Option<Step>> {
        let Some(batch) = s.next.take() else { return Ok(None) };
        let number = s.number;
        let shared = &*self.0;
        let options = TraceOptions {
            interventions: Vec::new(),
            keep: shared.options.keep,
            strict: shared.options.strict,
            cache: Some(s.cache.clone()),
            step: number,
        };
        let mut steers = Vec::new();
        for (prepared, met) in shared.steering.iter().zip(&s.met).filter(|(p, _)| p.when.means(number)) {
            let decided = |c: &Arc<Condition>| Decided { condition: c.clone(), before: met.clone() };
            steers.push(Steer {
                pattern: prepared.pattern.clone(),
                intervention: prepared.intervention.clone(),
                condition: prepared.condition.as_ref().map(decided),
            });
        }
        let trace = Trace::start_with(&shared.model, batch, &options, &steers)
            .map_err(|e| if number == 0 { e } else { e.context(format!("step {number}")) })?;
        let drawn: Draw = Arc::new(OnceLock::new());
        s.current = Some((number, trace.clone(), drawn.clone()));
        s.number += 1;
        Ok(Some(Step { number, trace, drawn, generation: self.clone() }))
    }

    fn draw_current(&self, s: &mut State) -> Result<()> {
        let Some((number, trace, drawn)) = s.current.take() else { return Ok(()) };
        let here = |e: crate::error::Error| if number == 0 { e } else { e.context(format!("step {number}")) };
        let (logits, cache, met) = self.looked_at(&trace).map_err(here)?;
        let (model, sampling) = (&self.0.model, &self.0.options.sampling);
        let tokenizer = model.tokenizer().ok();
        let vocabulary = logits.len() / s.rows.len();
        let mut all = Vec::with_capacity(s.rows.len());
        for (r, (row, logits)) in s.rows.iter_mut().zip(logits.chunks(vocabulary)).enumerate() {
            all.push(if row.goes_on() {
                let uniform = sampling::uniform(self.0.options.seed, r, number);
                let token = sampling.draw(logits, uniform).map_err(|e| here(e.context(format!("row {r}"))))?;
                Some(row.push(token, &self.0.ends, tokenizer)?)
            } else {
                None
            });
        }
        let go_on = |(row, d): (&Row, &Option<Drawn>)| d.as_ref().filter(|_| row.goes_on()).map(|d| d.token);
        let next: Vec<Option<u32>> = s.rows.iter().zip(&all).map(go_on).collect();
        if next.iter().any(Option::is_some) {
            s.next = Some(Batch::of_step(&next)?);
        }
        (s.cache, s.met) = (cache, met);
        // Empty until now: only the holder of the step in `current` fills it.
        let _ = drawn.set(all);
        Ok(())
    }

    /// The last logits of every row `[row * vocabulary]`, the state after the step, and what conditions said in it: all
    /// computed in one go.
    fn looked_at(&self, trace: &Trace) -> Result<(Vec<f32>, Cache, Vec<Option<Array>>)> {
        let logits = tensor::cast(&trace.drawn_from()?, Dtype::Float32)?;
        let cache = trace.cache()?;
        let answer = |p: &Prepared| match &p.condition {
            Some(c) if self.asks_the_step_before(trace, p, c)? => trace.meets(c).map(Some),
            _ => Ok(None),
        };
        let met: Vec<Option<Array>> = self.0.steering.iter().map(answer).collect::<Result<_>>()?;
        Array::eval_all([&logits].into_iter().chain(cache.arrays()).chain(met.iter().flatten()))?;
        trace.finish()?;
        Ok((logits.to_vec::<f32>()?, cache, met))
    }

    /// Whether some site of a steering comes before its probe.
    fn asks_the_step_before(&self, trace: &Trace, p: &Prepared, condition: &Condition) -> Result<bool> {
        for target in self.0.model.sites().targets(&p.pattern)? {
            if !trace.decides_itself(condition, target)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("rows", &self.rows()).finish()
    }
}
