//! How a generation is to run.

use std::fmt;
use std::sync::Arc;

use super::{Sampling, Step};
use crate::core::intervention::{Condition, Intervention};
use crate::core::model::Model;
use crate::core::trace::Keep;
use crate::error::{Error, Result, bail};

/// In which steps a change is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// In step 0, over the prompt.
    Prefill,
    /// In every later step, over the token drawn before it.
    Decode,
    /// In every step.
    #[default]
    Always,
}

impl When {
    /// Whether it means this step.
    pub fn means(self, step: usize) -> bool {
        match self {
            When::Prefill => step == 0,
            When::Decode => step > 0,
            When::Always => true,
        }
    }
}

impl std::str::FromStr for When {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "prefill" => When::Prefill,
            "decode" => When::Decode,
            "always" => When::Always,
            other => bail!(InvalidArgument, "no steps are called '{other}': use prefill, decode or always"),
        })
    }
}

/// A change that is made again in every step it is meant for.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// Site or pattern.
    pub pattern: String,
    /// What is done there. Positions are those of the step's own tokens, so that -1 is the newest in every step.
    pub intervention: Intervention,
    /// In which steps.
    pub when: When,
    /// Only in rows that meet it, decided anew in every step. Where the probed site feeds the changed one, this step's
    /// probe decides; where it comes later, that of the step before does, and step 0 goes unchanged.
    pub condition: Option<Condition>,
}

impl Steering {
    /// A change of every site that `pattern` means, in every step.
    pub fn new(pattern: impl Into<String>, intervention: Intervention) -> Self {
        Self { pattern: pattern.into(), intervention, when: When::Always, condition: None }
    }

    /// The same in these steps only.
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// The same in rows that meet a condition only.
    pub fn only_while(mut self, condition: Condition) -> Self {
        self.condition = Some(condition);
        self
    }
}

/// Called in every step, before its tokens are drawn. An error ends the generation with it.
#[derive(Clone)]
pub struct OnStep(Arc<Told>);

type Told = dyn Fn(&Step) -> Result<()> + Send + Sync;

impl OnStep {
    /// Wraps a function.
    pub fn new(f: impl Fn(&Step) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    pub(super) fn call(&self, step: &Step) -> Result<()> {
        (self.0)(step)
    }
}

impl fmt::Debug for OnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnStep")
    }
}

/// Options of a generation.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The most tokens drawn for a row.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// Where the random numbers begin. Row `r` of a batch draws what it would draw alone with `seed + r`.
    pub seed: u64,
    /// A row ends where one of these comes up in its text; the text stops before it.
    pub stop: Vec<String>,
    /// A row ends with one of these tokens. `None`: those the model's files name; empty: none.
    pub eos: Option<Vec<u32>>,
    /// Changes, applied in this order in every step they are meant for.
    pub steering: Vec<Steering>,
    /// What each step's trace keeps.
    pub keep: Keep,
    /// Whether a write that changes or reaches nothing is an error when the step's tokens are drawn.
    pub strict: bool,
    /// Told of every step.
    pub on_step: Option<OnStep>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: Sampling::default(),
            seed: 0,
            stop: Vec::new(),
            eos: None,
            steering: Vec::new(),
            keep: Keep::default(),
            strict: false,
            on_step: None,
        }
    }
}

impl GenerateOptions {
    /// Greedy, at most so many tokens a row.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { max_tokens, ..Self::default() }
    }

    /// With one more change.
    pub fn steer(mut self, steering: Steering) -> Self {
        self.steering.push(steering);
        self
    }

    /// Refuses what can never be right, before anything runs.
    pub(super) fn check(&self, model: &Model) -> Result<()> {
        if self.max_tokens == 0 {
            bail!(InvalidArgument, "max_tokens is 0: ask for at least one token");
        }
        self.sampling.check()?;
        if self.stop.iter().any(String::is_empty) {
            bail!(InvalidArgument, "a stop string is empty: it would end every row at once");
        }
        if !self.stop.is_empty() {
            model.tokenizer().map_err(|e| e.context("stop strings are looked for in text"))?;
        }
        if let Some(id) = self.eos.iter().flatten().find(|id| **id as usize >= model.vocab_size()) {
            bail!(
                InvalidArgument,
                "eos id {id} is out of range: the vocabulary has {} tokens, 0 to {}",
                model.vocab_size(),
                model.vocab_size().saturating_sub(1)
            );
        }
        for steering in &self.steering {
            model.sites().targets(&steering.pattern)?;
            if let Some(condition) = &steering.condition {
                condition.check()?;
                model.sites().resolve(&condition.site)?;
            }
        }
        Ok(())
    }
}
