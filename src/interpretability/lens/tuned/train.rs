//! Training: each layer's map by itself, on the same tokens.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::data::{Batches, Data, sample};
use super::{TunedLens, apply};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Head, Place, at_places};
use crate::error::{Result, bail, err};
use crate::interpretability::lens::layer;
use crate::interpretability::lens::readout::{AT_ONCE, log_probabilities};
use crate::utils::{Axis, Grid, Progress, tell};
use crate::utils::{Moments, Optimiser};

/// How a tuned lens is trained.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunedLensOptions {
    /// Layers to train, negative from the end; by default all but the last, which needs no map. The others stay as they are.
    pub layers: Option<Vec<i64>>,
    /// How many steps at most.
    pub steps: usize,
    /// Sequences of each step.
    pub batch: usize,
    /// Tokens of a sequence at most.
    pub length: usize,
    /// How many tokens of a batch, drawn at random, each step looks at: memory and time go with it times the vocabulary.
    pub positions: usize,
    /// The rule.
    pub optimiser: Optimiser,
    /// The rate at the beginning; it falls to 0 in a straight line. By default 0.001 for Adam, 1 for SGD.
    pub rate: Option<f64>,
    /// The most that the norm of a layer's gradient may be; 0 for no bound.
    pub clip: f64,
    /// The share of the sequences that is held out.
    pub held_out: f64,
    /// How many held-out tokens are looked at, drawn at random once.
    pub held_out_positions: usize,
    /// Steps from one look at the held-out part to the next.
    pub every: usize,
    /// After how many looks without a better mean to end; 0: never.
    pub patience: usize,
    /// Of the shuffling and of what is held out.
    pub seed: u64,
}

impl Default for TunedLensOptions {
    fn default() -> Self {
        Self {
            layers: None,
            steps: 250,
            batch: 8,
            length: 128,
            positions: 128,
            optimiser: Optimiser::Adam,
            rate: None,
            clip: 1.0,
            held_out: 0.1,
            held_out_positions: 256,
            every: 50,
            patience: 3,
            seed: 0,
        }
    }
}

impl TunedLensOptions {
    fn check(&self) -> Result<f64> {
        for (name, value) in [
            ("steps", self.steps),
            ("batch", self.batch),
            ("positions", self.positions),
            ("held_out_positions", self.held_out_positions),
            ("every", self.every),
        ] {
            if value == 0 {
                bail!(InvalidArgument, "{name} 0: it must be at least 1");
            }
        }
        if self.length < 2 {
            bail!(InvalidArgument, "length {}: a sequence needs at least 2 tokens", self.length);
        }
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            bail!(InvalidArgument, "held_out {}: a share between 0 and 1", self.held_out);
        }
        let rate = self.rate.unwrap_or(self.optimiser.usual_rate());
        if !(rate > 0.0 && rate.is_finite()) {
            bail!(InvalidArgument, "rate {rate}: it must be above 0");
        }
        if self.clip.is_nan() || self.clip < 0.0 {
            bail!(InvalidArgument, "clip {}: it must be 0 (no bound) or above", self.clip);
        }
        Ok(rate)
    }
}

/// A look at the held-out tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Held {
    /// After how many steps.
    pub step: usize,
    /// KL(final ‖ lens) for each trained layer, the mean of the tokens, in nats.
    pub kl: Vec<f32>,
}

impl Held {
    fn mean(&self) -> f32 {
        self.kl.iter().sum::<f32>() / self.kl.len() as f32
    }
}

/// A trained lens and how it came about.
#[derive(Clone, Debug, Serialize)]
pub struct TunedTraining {
    /// The lens, as it was at its best look.
    #[serde(skip)]
    pub lens: TunedLens,
    /// The layers trained.
    pub layers: Vec<usize>,
    /// Steps made.
    pub steps: usize,
    /// Whether training ended because nothing got better any more.
    pub stopped_early: bool,
    /// Mean over the layers of the training loss, KL in nats, step by step.
    pub losses: Vec<f32>,
    /// Looks at the held-out tokens, the first before any step: the logit lens.
    pub held_out: Vec<Held>,
    /// KL(final ‖ lens) on held-out tokens, in nats. Axes: layer, lens (the logit lens, the tuned lens at its best).
    pub kl: Grid,
    /// Tokens of the sequences trained on, and of those held out.
    pub tokens: [usize; 2],
}

/// Learns, for the output of every layer, the affine map with which the model's final norm and head come nearest to the
/// model's own prediction: the least mean KL(final ‖ lens). Maps begin as the identity. Each step is one forward of a batch;
/// the layers are then learned one after another, so that memory is that of one layer's logits. The lens with the best mean
/// on held-out sequences is given back.
///
/// Errors: too few texts, options out of range, a loss that is not a number (which names the step and the layer).
pub fn train_tuned_lens(model: &Model, texts: impl Into<Prompts>, options: &TunedLensOptions) -> Result<TunedTraining> {
    train_tuned_lens_with(model, texts, options, &mut None)
}

/// [`train_tuned_lens`], telling its progress in steps.
pub fn train_tuned_lens_with(
    model: &Model,
    texts: impl Into<Prompts>,
    options: &TunedLensOptions,
    progress: &mut Progress<'_>,
) -> Result<TunedTraining> {
    let rate = options.check()?;
    let n = model.num_layers();
    let layers = match &options.layers {
        Some(asked) => asked.iter().map(|l| layer(*l, n)).collect::<Result<Vec<_>>>()?,
        None => (0..n.saturating_sub(1)).collect(),
    };
    if layers.is_empty() {
        bail!(InvalidArgument, "no layers to train: a model of one layer needs no tuned lens");
    }
    let most = model.context_length().unwrap_or(usize::MAX);
    let data = Data::new(model, texts.into(), options.length.min(most), options.held_out, options.seed)?;
    let held_out = Evaluation::new(model, &data.held_out, &layers, options)?;
    let mut lens = TunedLens::identity(n, held_out.width())?;
    let mut looks = vec![Held { step: 0, kl: held_out.kl(&lens, &layers)? }];
    let (mut best, mut since) = ((lens.clone(), 0), 0);
    let mut pupils = layers.iter().map(|l| Pupil::new(*l, &lens)).collect::<Result<Vec<_>>>()?;
    let mut batches = Batches::new(data.train.len(), options.batch, options.seed);
    let (mut losses, mut stopped_early) = (Vec::new(), false);
    for step in 0..options.steps {
        let rows: Vec<Vec<u32>> = batches.next()?.into_iter().map(|i| data.train[i].clone()).collect();
        let seed = options.seed.wrapping_add(1 + step as u64);
        let lesson = Lesson::new(model, rows, &layers, options.positions, seed)?;
        let rate = rate * (1.0 - step as f64 / options.steps as f64);
        let mut sum = 0.0;
        for (i, pupil) in pupils.iter_mut().enumerate() {
            sum += pupil.learn(&lesson, i, &mut lens, rate, options).map_err(|e| e.context(format!("step {step}")))?;
        }
        losses.push(sum / layers.len() as f32);
        tell(progress, step as u64 + 1, options.steps as u64)?;
        if (step + 1).is_multiple_of(options.every) || step + 1 == options.steps {
            looks.push(Held { step: step + 1, kl: held_out.kl(&lens, &layers)? });
            let better = looks[looks.len() - 1].mean() < looks[best.1].mean();
            since = if better { 0 } else { since + 1 };
            if better {
                best = (lens.clone(), looks.len() - 1);
            }
            if options.patience > 0 && since >= options.patience {
                stopped_early = true;
                break;
            }
        }
    }
    let (first, end) = (&looks[0], &looks[best.1]);
    let values = first.kl.iter().zip(&end.kl).flat_map(|(logit, tuned)| [*logit, *tuned]).collect();
    let axes =
        vec![Axis::new("layer", layers.iter().map(usize::to_string)), Axis::new("lens", ["logit lens", "tuned lens"])];
    let kl = Grid::new(axes, values)?;
    let mut lens = best.0;
    lens.model = Some(model.inner().name.clone());
    let count = |rows: &[Vec<u32>]| rows.iter().map(Vec::len).sum();
    let tokens = [count(&data.train), count(&data.held_out)];
    Ok(TunedTraining { lens, layers, steps: losses.len(), stopped_early, losses, held_out: looks, kl, tokens })
}

/// What one step looks at: states of every layer at the same tokens, and what the model says after them.
struct Lesson {
    /// `[place, feature]` for each layer.
    states: Vec<Array>,
    /// Final probabilities `[place, vocabulary]`.
    target: Array,
    /// The entropy of each of them, `[place]`.
    entropy: Array,
    head: Head,
}

impl Lesson {
    fn new(model: &Model, rows: Vec<Vec<u32>>, layers: &[usize], most: usize, seed: u64) -> Result<Self> {
        let most = most.min(AT_ONCE / model.vocab_size().max(1)).max(1);
        let places = sample(&rows, most, seed)?;
        Self::at(model, rows, layers, &places)
    }

    fn at(model: &Model, rows: Vec<Vec<u32>>, layers: &[usize], places: &[Place]) -> Result<Self> {
        let trace = model.trace(rows)?;
        let state = |l: &usize| {
            let site = model.sites().resolve(&format!("layers.{l}.output"))?;
            tensor::cast(&at_places(&trace.value_of(model.inner().slot(site))?, places)?, Dtype::Float32)
        };
        let states = layers.iter().map(state).collect::<Result<Vec<_>>>()?;
        let log = log_probabilities(&trace.logits_at(places)?)?;
        let target = tensor::exp(&log)?;
        let entropy = tensor::neg(&tensor::sum(&tensor::mul(&target, &log)?, -1, false)?)?;
        Array::eval_all(states.iter().chain([&target, &entropy]))?;
        if !tensor::sum_all(&entropy)?.item()?.is_finite() {
            bail!(InvalidArgument, "the model's own logits are not numbers (NaN or infinity) on this text");
        }
        Ok(Self { states, target, entropy, head: Head::new(model, 1, places.len())? })
    }

    /// KL(final ‖ lens) of each token, `[place]`, with a layer's states mapped.
    fn kl(&self, layer: usize, weight: &Array, bias: &Array) -> Result<Array> {
        let states = apply(weight, bias, &self.states[layer])?;
        let logits = self.head.logits(&tensor::expand_dims(&states, 0)?)?;
        let logits = tensor::cast(&tensor::squeeze(&logits, 0)?, Dtype::Float32)?;
        // Cross-entropy less entropy: nothing of the vocabulary's size but the logits themselves is differentiated.
        let told = tensor::sum(&tensor::mul(&self.target, &logits)?, -1, false)?;
        tensor::sub(&tensor::sub(&tensor::logsumexp(&logits, -1, false)?, &told)?, &self.entropy)
    }
}

/// One layer in training.
struct Pupil {
    layer: usize,
    moments: [Moments; 2],
}

impl Pupil {
    fn new(layer: usize, lens: &TunedLens) -> Result<Self> {
        let (weight, bias) = lens.map(layer);
        Ok(Self { layer, moments: [Moments::new(weight)?, Moments::new(bias)?] })
    }

    /// One step; the loss before it.
    fn learn(
        &mut self,
        lesson: &Lesson,
        number: usize,
        lens: &mut TunedLens,
        rate: f64,
        options: &TunedLensOptions,
    ) -> Result<f32> {
        let (weight, bias) = lens.map(self.layer);
        let (weight, bias) = (weight.clone(), bias.clone());
        let loss = |p: &[Array]| tensor::mean(&lesson.kl(number, &p[0], &p[1])?, 0, false);
        let (loss, gradients) = tensor::value_and_gradients(&[weight.clone(), bias.clone()], loss)?;
        let square = |g: &Array| tensor::sum_all(&tensor::square(g)?);
        let norm = tensor::sqrt(&tensor::add(&square(&gradients[0])?, &square(&gradients[1])?)?)?;
        Array::eval_all(gradients.iter().chain([&loss, &norm]))?;
        let (loss, norm) = (loss.item()?, norm.item()?);
        if !loss.is_finite() || !norm.is_finite() {
            return Err(err!(
                InvalidArgument,
                "layer {}: the loss is {loss}, its gradient's norm {norm}: lower the rate (it is {rate}), or clip gradients",
                self.layer
            ));
        }
        let factor = if options.clip > 0.0 && norm > options.clip { options.clip / norm } else { 1.0 };
        let mut after = Vec::new();
        for ((moments, gradient), parameter) in self.moments.iter_mut().zip(&gradients).zip([&weight, &bias]) {
            let gradient = tensor::mul(gradient, &tensor::weak(factor, gradient)?)?;
            after.push(moments.step(options.optimiser, rate, parameter, &gradient)?);
        }
        Array::eval_all(after.iter().chain(self.moments.iter().flat_map(Moments::arrays)))?;
        let (Some(bias), Some(weight)) = (after.pop(), after.pop()) else { return Ok(loss as f32) };
        lens.set(self.layer, weight, bias);
        Ok(loss as f32)
    }
}

/// The held-out tokens, in as many lessons as memory asks for.
struct Evaluation {
    lessons: Vec<Lesson>,
    places: usize,
}

impl Evaluation {
    fn new(model: &Model, rows: &[Vec<u32>], layers: &[usize], options: &TunedLensOptions) -> Result<Self> {
        let places = sample(rows, options.held_out_positions, options.seed)?;
        let each = (AT_ONCE / 4 / model.vocab_size().max(1)).max(1);
        let lesson = |chunk: &[Place]| {
            // Only the rows that the chunk looks at.
            let first = chunk[0].0;
            let own: Vec<Vec<u32>> = rows[first..=chunk[chunk.len() - 1].0].to_vec();
            let at: Vec<Place> = chunk.iter().map(|(row, position)| (row - first, *position)).collect();
            Lesson::at(model, own, layers, &at)
        };
        let lessons = places.chunks(each).map(lesson).collect::<Result<Vec<_>>>()?;
        Ok(Self { lessons, places: places.len() })
    }

    fn width(&self) -> usize {
        self.lessons[0].states[0].dim(1)
    }

    fn kl(&self, lens: &TunedLens, layers: &[usize]) -> Result<Vec<f32>> {
        let of_layer = |(i, layer): (usize, &usize)| {
            let (weight, bias) = lens.map(*layer);
            let mut sum = 0.0;
            for lesson in &self.lessons {
                sum += tensor::sum_all(&lesson.kl(i, weight, bias)?)?.item()?;
            }
            Ok((sum / self.places as f64) as f32)
        };
        layers.iter().enumerate().map(of_layer).collect()
    }
}

impl fmt::Display for TunedTraining {
    /// The held-out divergence of both lenses, a line a layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, held] = self.tokens;
        let end = if self.stopped_early { ", then nothing got better" } else { "" };
        writeln!(f, "{} steps{end}; {train} tokens to train on, {held} held out", self.steps)?;
        writeln!(f, "KL(final ‖ lens) on held-out tokens, in nats")?;
        self.kl.fmt(f)
    }
}
