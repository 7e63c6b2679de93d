//! Causal tracing: noise on the subject, and which clean states bring the answer back (Meng et al. 2022, "Locating and
//! editing factual associations in GPT").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cells::{Cell, numbered};
use super::difference::Difference;
use super::measure::Score;
use super::options::{Component, Sharing};
use super::subject::Subject;
use super::sweep::{Sweep, begin};
use crate::core::intervention::Intervention;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Batch, Cache, Trace, TraceOptions};
use crate::error::{Result, bail, err};
use crate::utils::{Axis, Grid, Metric, Progress, Token};

/// Options of [`causal_tracing`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CausalTracingOptions {
    /// The tokens that get noise. Must be given.
    pub subject: Subject,
    /// The token whose probability is measured; nothing: what the clean run finds most likely.
    pub answer: Option<Token>,
    /// What is restored: `resid_pre`, `resid_mid`, `resid_post`, `attn` or `mlp`.
    pub component: Component,
    /// Layers restored together around each, cut off at the ends; nothing: 10 for `attn` and `mlp` as in the paper, 1 for
    /// states of the residual stream.
    pub window: Option<usize>,
    /// Layers (negative from the last); nothing: all.
    pub layers: Option<Vec<i64>>,
    /// Positions (negative from the end); nothing: all.
    pub positions: Option<Vec<i64>>,
    /// Standard deviation of the noise, in standard deviations of the token embedding's numbers.
    pub noise: f64,
    /// Standard deviation of the noise itself, in place of `noise`.
    pub std: Option<f64>,
    /// How many noises are tried; the results are averages.
    pub samples: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// How runs share what they have in common.
    pub sharing: Sharing,
    /// Tokens that run at once at most: bounds memory.
    pub tokens_at_once: usize,
    /// What all runs are under.
    #[serde(skip)]
    pub interventions: Vec<(String, Intervention)>,
}

impl Default for CausalTracingOptions {
    fn default() -> Self {
        Self {
            subject: Subject::Positions(Vec::new()),
            answer: None,
            component: Component::ResidPost,
            window: None,
            layers: None,
            positions: None,
            noise: 3.0,
            std: None,
            samples: 10,
            seed: 0,
            sharing: Sharing::default(),
            tokens_at_once: 4096,
            interventions: Vec::new(),
        }
    }
}

impl CausalTracingOptions {
    /// With this subject, all else by default.
    pub fn of(subject: &str) -> Self {
        Self { subject: Subject::Text(subject.to_owned()), ..Self::default() }
    }
}

/// What restoring each state does to the answer's probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CausalTrace {
    /// Text of each token of the prompt; ids where there is no tokenizer.
    pub tokens: Vec<String>,
    /// Positions that got noise.
    pub subject: Vec<usize>,
    /// The answer.
    pub answer: String,
    /// Its id.
    pub answer_id: u32,
    /// What was restored.
    pub component: Component,
    /// How many layers together.
    pub window: usize,
    /// Standard deviation of the noise.
    pub std: f64,
    /// Probability of the answer in the clean run.
    pub clean: f32,
    /// Probability of the answer under each noise.
    pub corrupt_by_sample: Vec<f32>,
    /// Its average.
    pub corrupt: f32,
    /// Probability with a state restored, averaged over noises; axes "layer" (the middle of the window), "position".
    pub restored: Grid,
    /// `restored` less `corrupt`: the indirect effect.
    pub effect: Grid,
    /// `restored` under each noise, axis "sample" first.
    pub restored_by_sample: Grid,
    /// Runs that were made; the tape told the outcome of the others.
    pub runs: usize,
    /// Whether runs shared layers and positions.
    pub staircase: bool,
}

/// Corrupts the subject's token embeddings with normal noise, then restores the clean run's states one by one (or windows
/// of layers of `attn` or `mlp`) and measures the answer's probability at the prompt's end.
///
/// Errors: no subject, or one that is not in the prompt; several prompts; an answer of several tokens; layers or positions
/// that are not there.
pub fn causal_tracing(
    model: &Model,
    prompt: impl Into<Prompts>,
    options: &CausalTracingOptions,
) -> Result<CausalTrace> {
    causal_tracing_told(model, prompt, options, None, &mut None)
}

/// [`causal_tracing`], with noise of the caller's own `[sample, subject token, feature]` and telling how far it is.
pub fn causal_tracing_told(
    model: &Model,
    prompt: impl Into<Prompts>,
    options: &CausalTracingOptions,
    noise: Option<&Array>,
    progress: &mut Progress<'_>,
) -> Result<CausalTrace> {
    let batch = model.batch(prompt)?;
    let prompt = match batch.rows() {
        [row] if !row.is_empty() => row.clone(),
        rows => bail!(InvalidArgument, "causal tracing takes one prompt of tokens, not {}", rows.len()),
    };
    if options.subject == Subject::Positions(Vec::new()) {
        bail!(
            InvalidArgument,
            "causal tracing needs a `subject`: its words as they stand in the prompt, or its positions"
        );
    }
    let subject = options.subject.positions(model, &prompt).map_err(|e| e.context("the subject"))?;
    let (component, n_layers) = (options.component, model.num_layers());
    if component.has_heads() || component == Component::Neuron {
        bail!(
            InvalidArgument,
            "causal tracing restores resid_pre, resid_mid, resid_post, attn or mlp, not '{component}'"
        );
    }
    let trace_options = TraceOptions { interventions: options.interventions.clone(), ..TraceOptions::default() };
    let clean = model.trace_batch(batch.clone(), &trace_options)?;
    let embed = clean.get("embed")?;
    let (noise, std) = noise_of(model, options, noise, &embed, &subject)?;
    let samples = noise.dim(0);
    let corrupted = corrupted(&embed, &noise, &subject)?;
    let rows = vec![prompt.clone(); samples];
    let rows_batch = Batch::new(rows.clone(), model.vocab_size(), model.context_length(), 0)?;
    let start = |cache: Option<Cache>| {
        let trace = model.trace_batch(rows_batch.clone(), &TraceOptions { cache, ..trace_options.clone() })?;
        trace.set("embed", &corrupted)?;
        Ok(trace)
    };
    let plain = options.interventions.is_empty();
    let root = Some(model.inner().slot(model.sites().resolve("embed")?));
    let (base, staircase) = begin(model, &start, false, plain, root, options.sharing)?;
    let (mut sites, mut values) = (vec![None; n_layers], vec![None; n_layers]);
    for layer in 0..n_layers {
        let Ok(site) = model.sites().resolve(&component.site(layer)) else { continue };
        (sites[layer], values[layer]) = (Some(site), Some(clean.read(site)?));
    }
    let answer_id = answer(model, options, &clean)?;
    let prepared = Metric::Probability { answer: answer_id.into() }.prepare(model, samples)?;
    let score = Score::Metric(prepared.clone());
    let everyone: Vec<usize> = (0..samples).collect();
    let (clean_p, corrupt_p) = (prepared.of_prompts(&[0])?.of_trace(&clean)?, score.of(&base.fork()?, &everyone)?);
    Array::eval_all(values.iter().flatten().chain([&clean_p, &corrupt_p]))?;
    let (clean_p, corrupt_p) = (prepared.numbers(&clean_p)?[0], prepared.numbers(&corrupt_p)?);

    let layers = match &options.layers {
        Some(list) => numbered(list, n_layers, "layer")?,
        None => (0..n_layers).filter(|layer| sites[*layer].is_some()).collect(),
    };
    if let Some(layer) =
        layers.iter().find(|l| sites[**l].is_none()).or(if layers.is_empty() { Some(&0) } else { None })
    {
        model.sites().resolve(&component.site(*layer))?;
    }
    let positions = match &options.positions {
        Some(list) => numbered(list, prompt.len(), "position")?,
        None => (0..prompt.len()).collect(),
    };
    let wide = if matches!(component, Component::Attn | Component::Mlp) { 10 } else { 1 };
    let window = options.window.unwrap_or(wide);
    if window == 0 {
        bail!(InvalidArgument, "a window of no layers: give at least 1");
    }
    let cell = |layer: usize, position: usize| Cell {
        // As in the paper's code: half of the window before the layer, the layer and the rest after it.
        first: layer.saturating_sub(window / 2),
        last: (layer + window.div_ceil(2) - 1).min(n_layers - 1),
        heads: None,
        neurons: None,
        positions: vec![vec![position]; samples],
    };
    let cells: Vec<Cell> = layers.iter().flat_map(|l| positions.iter().map(move |p| cell(*l, *p))).collect();
    let marks = (0..prompt.len()).map(|p| subject.contains(&p)).collect();
    let restored = vec![clean_p; samples];
    let sweep = Sweep {
        model,
        start: &start,
        staircase,
        prompts: &rows,
        sites,
        values,
        differences: vec![Difference::at(marks); samples],
        score: &score,
        unpatched: &corrupt_p,
        restored: &restored,
        plain,
        tokens_at_once: options.tokens_at_once,
    };
    let place = |cell: usize| (layers[cell / positions.len()], positions[cell % positions.len()]);
    let name = |cell: usize| format!("{component} of layer {}, position {}", place(cell).0, place(cell).1);
    let swept = sweep.run(&cells, &name, progress)?;

    let text = |id: u32| model.tokenizer().and_then(|t| t.token_to_str(id)).unwrap_or_else(|_| id.to_string());
    let tokens: Vec<String> = prompt.iter().map(|t| text(*t)).collect();
    let label = |p: &usize| format!("{p}{}{}", if tokens[*p].starts_with(' ') { "" } else { " " }, tokens[*p]);
    let axes = vec![
        Axis::new("layer", layers.iter().map(usize::to_string)),
        Axis::new("position", positions.iter().map(label)),
    ];
    let mean = |numbers: &[f32]| numbers.iter().sum::<f32>() / numbers.len() as f32;
    let corrupt = mean(&corrupt_p);
    let averaged: Vec<f32> = swept.scores.chunks(samples).map(mean).collect();
    let effect = averaged.iter().map(|p| p - corrupt).collect();
    let by_sample = (0..samples).flat_map(|s| swept.scores.iter().skip(s).step_by(samples).copied()).collect();
    Ok(CausalTrace {
        answer: text(answer_id),
        answer_id,
        subject,
        component,
        window,
        std,
        clean: clean_p,
        corrupt,
        restored_by_sample: Grid::new([vec![Axis::counted("sample", samples)], axes.clone()].concat(), by_sample)?,
        effect: Grid::new(axes.clone(), effect)?,
        restored: Grid::new(axes, averaged)?,
        corrupt_by_sample: corrupt_p.clone(),
        runs: swept.runs,
        staircase: sweep.staircase.is_some(),
        tokens,
    })
}

/// The noise `[sample, subject token, feature]` and its standard deviation.
fn noise_of(
    model: &Model,
    options: &CausalTracingOptions,
    given: Option<&Array>,
    embed: &Array,
    subject: &[usize],
) -> Result<(Array, f64)> {
    if embed.ndim() != 3 {
        bail!(
            Unsupported,
            "token embeddings of shape {:?}: causal tracing needs rows, positions and features",
            embed.shape()
        );
    }
    let (n, features) = (subject.len() as i32, embed.dim(2) as i32);
    if let Some(noise) = given {
        if noise.ndim() != 3 || noise.dim(0) == 0 || noise.shape()[1..] != [n, features] {
            bail!(Shape, "noise of shape {:?}: it must be [samples, {n} subject tokens, {features}]", noise.shape());
        }
        let noise = tensor::cast(noise, Dtype::Float32)?;
        let size = tensor::norm_all(&noise)?.item()? / (noise.size() as f64).sqrt();
        return Ok((noise, size));
    }
    if options.samples == 0 {
        bail!(InvalidArgument, "0 samples of noise: give at least 1");
    }
    let std = match options.std {
        Some(std) => std,
        None => options.noise * embedding_std(model)?,
    };
    if !std.is_finite() || std <= 0.0 {
        bail!(InvalidArgument, "noise of standard deviation {std}: it must be a positive number");
    }
    let noise = tensor::random_normal(&[options.samples as i32, n, features], Dtype::Float32, options.seed)?;
    Ok((tensor::mul(&noise, &tensor::weak(std, &noise)?)?, std))
}

/// Standard deviation of the numbers of the token embedding, over up to 4096 tokens spread evenly over the vocabulary.
fn embedding_std(model: &Model) -> Result<f64> {
    let step = model.vocab_size().div_ceil(4096).max(1);
    let rows: Vec<Vec<u32>> = (0..model.vocab_size() as u32).step_by(step).map(|id| vec![id]).collect();
    let all = tensor::cast(&model.trace(rows)?.get("embed")?, Dtype::Float32)?;
    tensor::std(&tensor::reshape(&all, &[-1])?, 0, false)?.item()
}

/// The token embeddings with noise at the subject, a row a sample.
fn corrupted(embed: &Array, noise: &Array, subject: &[usize]) -> Result<Array> {
    let (samples, width, features) = (noise.dim(0), embed.dim(1), embed.dim(2));
    let order = (0..width).map(|p| subject.iter().position(|s| *s == p));
    // Each position takes its own noise, those outside the subject a column of zeros behind it.
    let which: Vec<u32> = order.map(|at| at.unwrap_or(subject.len()) as u32).collect();
    let zeros = tensor::full(&[samples as i32, 1, features as i32], 0.0, Dtype::Float32)?;
    let all = tensor::concatenate([noise, &zeros], 1)?;
    let spread = tensor::take(&all, &Array::from_slice(&which, &[width])?, 1)?;
    tensor::cast(&tensor::add(&tensor::cast(embed, Dtype::Float32)?, &spread)?, embed.dtype())
}

/// The token whose probability is measured.
fn answer(model: &Model, options: &CausalTracingOptions, clean: &Trace) -> Result<u32> {
    match &options.answer {
        Some(token) => token.id(model).map_err(|e| e.context("the answer")),
        None => {
            let best = tensor::argmax(&clean.last_logits()?, -1, false)?;
            best.to_vec::<u32>()?.first().copied().ok_or_else(|| err!(Backend, "no logits"))
        }
    }
}

impl fmt::Display for CausalTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let together = if self.window > 1 { format!(", {} layers together", self.window) } else { String::new() };
        writeln!(
            f,
            "probability of {:?} with clean {} restored{together}; noise {:.4} on {} tokens, {} samples",
            self.answer,
            self.component,
            self.std,
            self.subject.len(),
            self.corrupt_by_sample.len()
        )?;
        writeln!(f, "clean {:.4}, corrupted {:.4}", self.clean, self.corrupt)?;
        self.restored.fmt(f)
    }
}
