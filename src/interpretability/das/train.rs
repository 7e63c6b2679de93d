//! Learning the directions: the model is run from the site on, with what it was before as a constant.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rotation::frame;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Trace, TraceOptions};
use crate::error::{Result, bail};
use crate::utils::{Moments, Optimiser, Pick, Position, Progress, Random, Token, activations, tell};

/// Where and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DasOptions {
    /// A site `[row, position, feature]`.
    pub site: String,
    /// The position of the base prompt whose state is changed.
    pub position: Position,
    /// The position of the source prompt whose state is taken; none: the same.
    pub source_position: Option<Position>,
    /// How many directions.
    pub dimensions: usize,
    /// How often every pair is learnt from.
    pub epochs: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// Pairs that run together.
    pub batch_size: usize,
    /// Share of the pairs that are judged by and not learnt from.
    pub validation: f64,
    /// What directions begin at, pairs are parted by, and batches come in order by.
    pub seed: u64,
}

impl Default for DasOptions {
    fn default() -> Self {
        Self {
            site: String::new(),
            position: Position::Last,
            source_position: None,
            dimensions: 1,
            epochs: 20,
            learning_rate: 0.02,
            batch_size: 16,
            validation: 0.25,
            seed: 0,
        }
    }
}

/// Shares of pairs whose answer is the likeliest next token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracies {
    /// How many pairs.
    pub pairs: usize,
    /// Interchange accuracy: the part in the learnt directions exchanged.
    pub exchanged: f64,
    /// The base prompt as it is.
    pub untouched: f64,
    /// The whole state exchanged.
    pub whole: f64,
}

/// What was learnt.
#[derive(Clone, Debug, Serialize)]
pub struct Das {
    /// The site.
    pub site: String,
    /// Width of its state.
    pub width: usize,
    /// How many directions.
    pub dimensions: usize,
    /// `[width, dimensions]`, row-major: columns of length 1 at right angles.
    #[serde(skip)]
    pub directions: Vec<f32>,
    /// Mean cross-entropy of the answers in each epoch, in nats.
    pub losses: Vec<f32>,
    /// On the pairs learnt from.
    pub train: Accuracies,
    /// On the others.
    pub validation: Option<Accuracies>,
}

impl fmt::Display for Das {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} directions of {} at {}", self.dimensions, self.width, self.site)?;
        for (name, a) in [("train", Some(&self.train)), ("validation", self.validation.as_ref())] {
            let Some(a) = a else { continue };
            writeln!(
                f,
                "  {name:<10} {} pairs: interchange accuracy {:.3} (untouched {:.3}, the whole state {:.3})",
                a.pairs, a.exchanged, a.untouched, a.whole
            )?;
        }
        if let (Some(first), Some(last)) = (self.losses.first(), self.losses.last()) {
            writeln!(f, "  loss {first:.3} in the first epoch, {last:.3} in the last")?;
        }
        Ok(())
    }
}

/// Pairs that run together: the base run, its state, and what is exchanged.
struct Batch {
    trace: Trace,
    /// `[row, position, feature]`, float32.
    state: Array,
    /// `[row, feature]`: the source's state less the base's, at their positions.
    apart: Array,
    /// `[row, position, 1]`: 1 where the state is changed.
    place: Array,
    /// `[row, 1]`
    answers: Array,
}

/// Learns directions from pairs: `answers` has for each the next token if the base had the source's value of the variable.
/// Errors: lists of unequal length, a site that is no state, a position that is not there, a loss that is not a number.
pub fn das(
    model: &Model,
    base: impl Into<Prompts>,
    source: impl Into<Prompts>,
    answers: &[Token],
    options: &DasOptions,
    trace: &TraceOptions,
    progress: &mut Progress<'_>,
) -> Result<Das> {
    let base = model.batch(base).map_err(|e| e.context("the base prompts"))?.rows().to_vec();
    let source = model.batch(source).map_err(|e| e.context("the source prompts"))?.rows().to_vec();
    let n = base.len();
    if source.len() != n || answers.len() != n {
        bail!(
            InvalidArgument,
            "{n} base prompts, {} sources, {} answers: a pair has one each",
            source.len(),
            answers.len()
        );
    }
    if !(0.0..1.0).contains(&options.validation) || options.batch_size == 0 || options.epochs == 0 {
        bail!(InvalidArgument, "validation must be from 0 to below 1, batch_size and epochs at least 1");
    }
    if !options.learning_rate.is_finite() || options.learning_rate <= 0.0 {
        bail!(InvalidArgument, "a learning rate of {}: it must be above 0", options.learning_rate);
    }
    let answers = answers.iter().map(|t| t.id(model)).collect::<Result<Vec<_>>>()?;
    let at = |position: Position, rows: &[Vec<u32>]| match position.pick(rows)? {
        Pick::At(all) => Ok(all),
        Pick::Mean => bail!(InvalidArgument, "a state is exchanged at one position, not at the mean of all"),
    };
    let here = at(options.position, &base)?;
    let there = Pick::At(at(options.source_position.unwrap_or(options.position), &source)?);
    model.sites().resolve(&options.site)?;
    let site = [options.site.clone()];
    let found = activations(model, &source, &site, &[there], trace, options.batch_size, &mut None)?;
    let width = found.widths[0];
    if options.dimensions == 0 || options.dimensions > width {
        bail!(InvalidArgument, "{} directions in a state of width {width}: from 1 to {width}", options.dimensions);
    }

    let mut order: Vec<usize> = (0..n).collect();
    let mut random = Random::new(options.seed);
    random.shuffle(&mut order);
    let held = ((n as f64 * options.validation).round() as usize).min(n - 1);
    let (judge, learn) = order.split_at(held);
    let batch = |rows: &[usize]| {
        let sources: Vec<&[f32]> = rows.iter().map(|i| &found.values[0][0][i * width..(i + 1) * width]).collect();
        let own: Vec<Vec<u32>> = rows.iter().map(|i| base[*i].clone()).collect();
        let places: Vec<usize> = rows.iter().map(|i| here[*i]).collect();
        let answers: Vec<u32> = rows.iter().map(|i| answers[*i]).collect();
        Batch::new(model, own, &places, &sources.concat(), &answers, options, trace)
    };
    let batches = |rows: &[usize]| rows.chunks(options.batch_size).map(batch).collect::<Result<Vec<_>>>();
    let (learn, judge) = (batches(learn)?, batches(judge)?);

    let shape = [width as i32, options.dimensions as i32];
    let mut free = tensor::random_normal(&shape, Dtype::Float32, options.seed)?;
    let mut moments = Moments::new(&free)?;
    let total = (options.epochs * learn.len()) as u64;
    let (mut losses, mut done) = (Vec::new(), 0);
    for epoch in 0..options.epochs {
        let mut turns: Vec<usize> = (0..learn.len()).collect();
        random.shuffle(&mut turns);
        let mut sum = 0.0;
        for turn in turns {
            let batch = &learn[turn];
            let at = [free.clone()];
            let (loss, gradients) = tensor::value_and_gradients(&at, |x| batch.loss(&frame(&x[0])?, &options.site))?;
            free = moments.step(Optimiser::Adam, options.learning_rate, &free, &gradients[0])?;
            Array::eval_all([&loss, &free].into_iter().chain(moments.arrays()))?;
            let value = loss.item()?;
            let moved = tensor::sum_all(&free)?.item()?;
            if !value.is_finite() || !moved.is_finite() {
                bail!(
                    InvalidArgument,
                    "the loss of epoch {epoch} is not a number: try a smaller learning rate than {}",
                    options.learning_rate
                );
            }
            sum += value;
            done += 1;
            tell(progress, done, total)?;
        }
        losses.push((sum / learn.len() as f64) as f32);
    }
    let directions = frame(&free)?;
    let measure = |all: &[Batch]| accuracies(all, &directions, &options.site);
    Ok(Das {
        site: options.site.clone(),
        width,
        dimensions: options.dimensions,
        directions: directions.to_vec()?,
        losses,
        train: measure(&learn)?,
        validation: if judge.is_empty() { None } else { Some(measure(&judge)?) },
    })
}

impl Batch {
    fn new(
        model: &Model,
        rows: Vec<Vec<u32>>,
        places: &[usize],
        source: &[f32],
        answers: &[u32],
        options: &DasOptions,
        trace: &TraceOptions,
    ) -> Result<Self> {
        let n = rows.len();
        let trace = model.trace_with(rows, trace)?;
        let state = trace.get(&options.site)?;
        if state.ndim() != 3 {
            bail!(
                InvalidArgument,
                "'{}' has shape {:?}: directions are learnt in a state [row, position, feature]",
                options.site,
                state.shape()
            );
        }
        let (width, features) = (state.dim(1), state.dim(2));
        let state = tensor::cast(&state, Dtype::Float32)?;
        let mut marks = vec![0.0f32; n * width];
        places.iter().enumerate().for_each(|(r, p)| marks[r * width + p] = 1.0);
        let place = Array::from_slice(&marks, &[n, width, 1])?;
        let own = tensor::sum(&tensor::mul(&state, &place)?, 1, false)?;
        let apart = tensor::sub(&Array::from_slice(source, &[n, features])?, &own)?;
        Array::eval_all([&state, &apart])?;
        Ok(Self { trace, state, apart, place, answers: Array::from_slice(answers, &[n, 1])? })
    }

    /// Last logits `[row, vocabulary]`, float32, with this added to the state where it is changed.
    fn logits(&self, change: &Array, site: &str) -> Result<Array> {
        let fork = self.trace.fork()?;
        let change = tensor::mul(&tensor::expand_dims(change, 1)?, &self.place)?;
        fork.set(site, &tensor::add(&self.state, &change)?)?;
        tensor::cast(&fork.last_logits()?, Dtype::Float32)
    }

    /// The part of the exchange that lies in the directions.
    fn exchange(&self, directions: &Array) -> Result<Array> {
        let inside = tensor::matmul(&self.apart, directions)?;
        tensor::matmul(&inside, &tensor::transpose(directions, &[1, 0])?)
    }

    /// Mean cross-entropy of the answers.
    fn loss(&self, directions: &Array, site: &str) -> Result<Array> {
        let logits = self.logits(&self.exchange(directions)?, site)?;
        let own = tensor::take_along(&logits, &self.answers, -1)?;
        let each = tensor::sub(&tensor::logsumexp(&logits, -1, true)?, &own)?;
        tensor::mean(&tensor::squeeze(&each, 1)?, 0, false)
    }

    /// How many answers are the likeliest token after a change.
    fn right(&self, change: &Array, site: &str) -> Result<usize> {
        let best = tensor::argmax(&self.logits(change, site)?, -1, true)?.to_vec::<u32>()?;
        Ok(best.iter().zip(self.answers.to_vec::<u32>()?).filter(|(a, b)| **a == *b).count())
    }
}

fn accuracies(batches: &[Batch], directions: &Array, site: &str) -> Result<Accuracies> {
    let (mut exchanged, mut untouched, mut whole, mut pairs) = (0, 0, 0, 0);
    for batch in batches {
        pairs += batch.answers.dim(0);
        exchanged += batch.right(&batch.exchange(directions)?, site)?;
        untouched += batch.right(&tensor::zeros_like(&batch.apart)?, site)?;
        whole += batch.right(&batch.apart, site)?;
    }
    let share = |n: usize| n as f64 / pairs as f64;
    Ok(Accuracies { pairs, exchanged: share(exchanged), untouched: share(untouched), whole: share(whole) })
}
