//! Metrics: what a model's answer comes to, a number a row.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::Trace;
use crate::error::{ErrorKind, Result, bail, err};

/// A token as people name it: its id, or a text that is exactly one token (mind the space: " Paris").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Token {
    /// Its id.
    Id(u32),
    /// Its text.
    Text(String),
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Token::Text(text.to_owned())
    }
}

impl From<u32> for Token {
    fn from(id: u32) -> Self {
        Token::Id(id)
    }
}

impl Token {
    /// Its id in a model. Errors: a text of several tokens (the message names them), an id beyond the vocabulary.
    pub fn id(&self, model: &Model) -> Result<u32> {
        let id = match self {
            Token::Id(id) => *id,
            Token::Text(text) => {
                let tokenizer = model.tokenizer()?;
                let ids = tokenizer.encode(text, false)?;
                match ids.as_slice() {
                    [id] => *id,
                    [] => bail!(InvalidArgument, "{text:?} is no token: it encodes to nothing"),
                    many => {
                        let parts = many.iter().map(|i| tokenizer.token_to_str(*i)).collect::<Result<Vec<_>>>()?;
                        bail!(
                            InvalidArgument,
                            "{text:?} is {} tokens, {parts:?}: choose a word that is one, or give the first token's id",
                            many.len()
                        )
                    }
                }
            }
        };
        if id as usize >= model.vocab_size() {
            bail!(InvalidArgument, "token id {id} is out of range: the vocabulary has {} tokens", model.vocab_size());
        }
        Ok(id)
    }
}

/// One token for every row, or one a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tokens {
    /// For every row.
    Same(Token),
    /// For each row.
    ByRow(Vec<Token>),
}

impl<T: Into<Token>> From<T> for Tokens {
    fn from(token: T) -> Self {
        Tokens::Same(token.into())
    }
}

impl Tokens {
    fn ids(&self, model: &Model, rows: usize) -> Result<Vec<u32>> {
        match self {
            Tokens::Same(t) => Ok(vec![t.id(model)?; rows]),
            Tokens::ByRow(list) if list.len() == rows => list.iter().map(|t| t.id(model)).collect(),
            Tokens::ByRow(list) => {
                bail!(InvalidArgument, "{} answer tokens for {rows} prompts: give one, or one a prompt", list.len())
            }
        }
    }
}

/// A function of a trace, given by a front end.
pub type Function = dyn Fn(&Trace) -> Result<Array> + Send + Sync;

/// What is measured, at each row's own last token unless it is a function.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Logit of one token less that of another.
    LogitDifference {
        /// The right one.
        answer: Tokens,
        /// The wrong one.
        wrong: Tokens,
    },
    /// A token's logit.
    Logit {
        /// Which.
        answer: Tokens,
    },
    /// A token's probability.
    Probability {
        /// Which.
        answer: Tokens,
    },
    /// A token's log probability, in nats.
    LogProbability {
        /// Which.
        answer: Tokens,
    },
    /// How far the prediction is from that of a reference run, which the analysis names: KL(reference ‖ here), in nats.
    KlDivergence,
    /// Whatever a function makes of the trace: a number a row.
    #[serde(skip)]
    Custom(Arc<Function>),
}

impl Metric {
    /// Logit of `answer` less that of `wrong`.
    pub fn logit_difference(answer: impl Into<Tokens>, wrong: impl Into<Tokens>) -> Self {
        Metric::LogitDifference { answer: answer.into(), wrong: wrong.into() }
    }

    /// A function's: a scalar for one row, a number a row otherwise.
    pub fn custom(f: impl Fn(&Trace) -> Result<Array> + Send + Sync + 'static) -> Self {
        Metric::Custom(Arc::new(f))
    }

    /// The metric with its tokens looked up, for prompts in so many rows.
    pub fn prepare(&self, model: &Model, rows: usize) -> Result<Prepared> {
        let ids = |t: &Tokens| t.ids(model, rows);
        let kind = match self {
            Metric::LogitDifference { answer, wrong } => Kind::Difference(ids(answer)?, ids(wrong)?),
            Metric::Logit { answer } => Kind::Logit(ids(answer)?),
            Metric::Probability { answer } => Kind::Probability(ids(answer)?),
            Metric::LogProbability { answer } => Kind::LogProbability(ids(answer)?),
            Metric::KlDivergence => Kind::Kl(None),
            Metric::Custom(f) => Kind::Custom(f.clone()),
        };
        Ok(Prepared { kind, rows })
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::LogitDifference { .. } => "logit difference",
            Metric::Logit { .. } => "logit",
            Metric::Probability { .. } => "probability",
            Metric::LogProbability { .. } => "log probability",
            Metric::KlDivergence => "KL divergence",
            Metric::Custom(_) => "metric",
        })
    }
}

/// A metric ready for runs of one set of prompts, or of that set several times over (row `i` is prompt `i % rows`).
#[derive(Clone)]
pub struct Prepared {
    kind: Kind,
    rows: usize,
}

#[derive(Clone)]
enum Kind {
    Difference(Vec<u32>, Vec<u32>),
    Logit(Vec<u32>),
    Probability(Vec<u32>),
    LogProbability(Vec<u32>),
    Kl(Option<Array>),
    Custom(Arc<Function>),
}

impl Prepared {
    /// Whether the reference of a KL divergence is still to be given.
    pub fn needs_reference(&self) -> bool {
        matches!(self.kind, Kind::Kl(None))
    }

    /// Sets the logits `[rows, vocabulary]` that a KL divergence is measured from; nothing to any other metric.
    pub fn with_reference(mut self, logits: &Array) -> Self {
        if let Kind::Kl(reference) = &mut self.kind {
            *reference = Some(logits.clone());
        }
        self
    }

    /// The same metric where row `i` is prompt `prompts[i]`. Errors: no such prompt.
    pub fn of_prompts(&self, prompts: &[usize]) -> Result<Self> {
        if let Some(p) = prompts.iter().find(|p| **p >= self.rows) {
            bail!(InvalidArgument, "the metric was prepared for {} prompts: there is no prompt {p}", self.rows);
        }
        let each = |ids: &Vec<u32>| prompts.iter().map(|p| ids[*p]).collect::<Vec<u32>>();
        let kind = match &self.kind {
            Kind::Difference(answer, wrong) => Kind::Difference(each(answer), each(wrong)),
            Kind::Logit(answer) => Kind::Logit(each(answer)),
            Kind::Probability(answer) => Kind::Probability(each(answer)),
            Kind::LogProbability(answer) => Kind::LogProbability(each(answer)),
            Kind::Kl(Some(reference)) => {
                let which: Vec<u32> = prompts.iter().map(|p| (*p % reference.dim(0).max(1)) as u32).collect();
                Kind::Kl(Some(tensor::take(reference, &Array::from_slice(&which, &[which.len()])?, 0)?))
            }
            Kind::Kl(None) => Kind::Kl(None),
            Kind::Custom(f) => Kind::Custom(f.clone()),
        };
        Ok(Self { kind, rows: prompts.len() })
    }

    /// Whether it is a function of the whole trace, so that the last logits do not suffice.
    pub fn needs_trace(&self) -> bool {
        matches!(self.kind, Kind::Custom(_))
    }

    /// The metric `[rows of the trace]`, float32, lazily.
    pub fn of_trace(&self, trace: &Trace) -> Result<Array> {
        let Kind::Custom(f) = &self.kind else { return self.of_logits(&trace.last_logits()?) };
        let rows = trace.batch()?.len();
        let value = f(trace).map_err(|e| if e.kind() == ErrorKind::Callback { e } else { e.context("the metric") })?;
        let fits = (value.ndim() == 0 && rows == 1) || (value.ndim() == 1 && value.dim(0) == rows);
        if !fits {
            bail!(
                Shape,
                "the metric gave shape {:?}: it must give one number for each of the {rows} rows",
                value.shape()
            );
        }
        tensor::reshape(&tensor::cast(&value, Dtype::Float32)?, &[rows as i32])
    }

    /// The metric `[rows]` of logits `[rows, vocabulary]`, float32, lazily. An error for a function of the trace.
    pub fn of_logits(&self, logits: &Array) -> Result<Array> {
        let x = tensor::cast(logits, Dtype::Float32)?;
        let log_probabilities = |x: &Array| tensor::sub(x, &tensor::logsumexp(x, -1, true)?);
        match &self.kind {
            Kind::Difference(answer, wrong) => tensor::sub(&self.pick(&x, answer)?, &self.pick(&x, wrong)?),
            Kind::Logit(answer) => self.pick(&x, answer),
            Kind::Probability(answer) => tensor::exp(&self.pick(&log_probabilities(&x)?, answer)?),
            Kind::LogProbability(answer) => self.pick(&log_probabilities(&x)?, answer),
            Kind::Kl(Some(reference)) => {
                let n = x.dim(0) / reference.dim(0).max(1);
                let repeated = tensor::concatenate(std::iter::repeat_n(reference, n), 0)?;
                let reference = log_probabilities(&tensor::cast(&repeated, Dtype::Float32)?)?;
                let difference = tensor::sub(&reference, &log_probabilities(&x)?)?;
                tensor::sum(&tensor::mul(&tensor::exp(&reference)?, &difference)?, -1, false)
            }
            Kind::Kl(None) => bail!(InvalidArgument, "a KL divergence needs a reference run"),
            Kind::Custom(_) => bail!(InvalidArgument, "a function of the trace cannot be asked about logits alone"),
        }
    }

    fn pick(&self, x: &Array, ids: &[u32]) -> Result<Array> {
        let rows = x.dim(0);
        let each: Vec<u32> = ids.iter().copied().cycle().take(rows).collect();
        tensor::squeeze(&tensor::take_along(x, &Array::from_slice(&each, &[rows, 1])?, -1)?, 1)
    }

    /// Numbers out of a metric, computed now: an error when one of them is none.
    pub fn numbers(&self, metric: &Array) -> Result<Vec<f32>> {
        let numbers = metric.to_vec::<f32>()?;
        match numbers.iter().position(|v| v.is_nan()) {
            None => Ok(numbers),
            Some(i) => Err(err!(
                InvalidArgument,
                "the metric of row {} is not a number (NaN): check the prompt, the interventions and the metric itself",
                i % self.rows.max(1)
            )),
        }
    }
}
