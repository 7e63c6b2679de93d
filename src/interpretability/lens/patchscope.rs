//! Patchscopes: a hidden state read by the model itself, in another prompt (Ghandeharioun et al., 2024, "Patchscopes: a
//! unifying framework for inspecting hidden representations of language models").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cells::{Cell, Standing};
use super::readout::{self, log_probabilities};
use super::{layer, position};
use crate::core::intervention::Intervention;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Cache, Trace, TraceOptions, at_places};
use crate::error::{Result, bail};
use crate::utils::{Progress, Token, tell};

/// A prompt whose continuation repeats the last token's meaning.
pub const IDENTITY: &str = "cat -> cat; 1135 -> 1135; hello -> hello; ?";

/// What is read, and where it is put.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchscopeOptions {
    /// Layers whose output is read, negative from the end; all of them by default. Each is a row of one batch.
    pub layers: Option<Vec<i64>>,
    /// The position in the source prompt, negative from its end.
    pub position: i64,
    /// The prompt that a state is put into; [`IDENTITY`] by default. Token ids where the model has no tokenizer.
    pub target: Option<TargetPrompt>,
    /// The layer whose output it replaces there; the layer it was read at by default.
    pub target_layer: Option<i64>,
    /// The position there, negative from the end.
    pub target_position: i64,
    /// How many tokens to continue with, greedily; an end-of-text token ends a row.
    pub tokens: usize,
    /// How many of the likeliest next tokens to name.
    pub top: usize,
    /// Tokens whose probability and rank as the next one to tell.
    pub targets: Vec<Token>,
}

impl Default for PatchscopeOptions {
    fn default() -> Self {
        Self {
            layers: None,
            position: -1,
            target: None,
            target_layer: None,
            target_position: -1,
            tokens: 8,
            top: 5,
            targets: Vec::new(),
        }
    }
}

/// One prompt, as text or as token ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPrompt {
    /// Text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl From<&str> for TargetPrompt {
    fn from(text: &str) -> Self {
        TargetPrompt::Text(text.to_owned())
    }
}

impl From<TargetPrompt> for Prompts {
    fn from(prompt: TargetPrompt) -> Self {
        match prompt {
            TargetPrompt::Text(text) => Prompts::Text(vec![text]),
            TargetPrompt::Ids(ids) => Prompts::Tokens(vec![ids]),
        }
    }
}

/// `state weight^T + bias`, applied to a state on its way.
#[derive(Clone, Default)]
pub struct Mapping {
    /// `[feature, feature]`
    pub weight: Option<Array>,
    /// `[feature]`
    pub bias: Option<Array>,
}

impl Mapping {
    fn apply(&self, states: &Array) -> Result<Array> {
        let d = states.dim(-1);
        let mut x = tensor::cast(states, Dtype::Float32)?;
        if let Some(w) = &self.weight {
            if w.shape() != [d as i32; 2] {
                bail!(Shape, "a map of shape {:?}: the model's states have {d} features, so [{d}, {d}]", w.shape());
            }
            x = tensor::matmul(&x, &tensor::swap_axes(&tensor::cast(w, Dtype::Float32)?, 0, 1)?)?;
        }
        if let Some(b) = &self.bias {
            if b.shape() != [d as i32] {
                bail!(Shape, "a bias of shape {:?}: the model's states have {d} features", b.shape());
            }
            x = tensor::add(&x, &tensor::cast(b, Dtype::Float32)?)?;
        }
        Ok(x)
    }
}

/// What the model made of one layer's state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patched {
    /// The layer it was read at.
    pub layer: usize,
    /// The layer whose output it replaced.
    pub target_layer: usize,
    /// The likeliest next tokens.
    pub top: Vec<Cell>,
    /// The tokens asked for.
    pub targets: Vec<Standing>,
    /// Ids of the greedy continuation.
    pub tokens: Vec<u32>,
    /// Its text.
    pub continuation: String,
}

/// States of one position, layer by layer, as the model itself reads them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Patchscope {
    /// The position in the source prompt, and the token there.
    pub position: usize,
    /// The token there.
    pub token: String,
    /// The position in the target prompt.
    pub target_position: usize,
    /// Texts of the target prompt's tokens.
    pub target: Vec<String>,
    /// A row a layer.
    pub rows: Vec<Patched>,
}

/// Reads the output of each layer at one position of `source`, puts it into the target prompt, and lets the model go on: the
/// next-token distribution and a greedy continuation. All layers are rows of one batch. Only the target prompt's own run is
/// patched; what follows sees it through the cache.
pub fn patchscope(
    model: &Model,
    source: impl Into<Prompts>,
    mapping: &Mapping,
    options: &PatchscopeOptions,
) -> Result<Patchscope> {
    patchscope_of(&model.trace(source)?, mapping, options, &mut None)
}

/// [`patchscope`] of a trace of one prompt, whose interventions it sees; the target prompt's run is under none.
pub fn patchscope_of(
    source: &Trace,
    mapping: &Mapping,
    options: &PatchscopeOptions,
    progress: &mut Progress<'_>,
) -> Result<Patchscope> {
    let model = source.model();
    let batch = source.batch()?;
    if batch.len() != 1 || !batch.is_tokens() {
        bail!(InvalidArgument, "a patchscope reads one source prompt, {} were given", batch.len());
    }
    if options.top == 0 {
        bail!(InvalidArgument, "top 0: name at least one token");
    }
    let n = model.num_layers();
    let layers = match &options.layers {
        None => (0..n).collect(),
        Some(asked) => asked.iter().map(|l| layer(*l, n)).collect::<Result<Vec<_>>>()?,
    };
    if layers.is_empty() {
        bail!(InvalidArgument, "no layers: leave them out for all of them");
    }
    let fixed = options.target_layer.map(|l| layer(l, n)).transpose()?;
    let into: Vec<usize> = layers.iter().map(|l| fixed.unwrap_or(*l)).collect();
    let from = position(options.position, batch.lengths()[0], 0)?;
    let target = target_ids(&model, options)?;
    let to = position(options.target_position, target.len(), 0).map_err(|e| e.context("the target prompt"))?;
    let targets = options.targets.iter().map(|t| t.id(&model)).collect::<Result<Vec<u32>>>()?;

    let state = |l: &usize| {
        let site = model.sites().resolve(&format!("layers.{l}.output"))?;
        at_places(&source.value_of(model.inner().slot(site))?, &[(0, from)])
    };
    let states = layers.iter().map(state).collect::<Result<Vec<_>>>()?;
    let states = tensor::expand_dims(&mapping.apply(&tensor::concatenate(&states, 0)?)?, 1)?;
    let mut run = TraceOptions::default().after(&Cache::default());
    for at in into.iter().collect::<std::collections::BTreeSet<_>>() {
        let rows: Vec<i64> = (0..into.len()).filter(|r| into[*r] == *at).map(|r| r as i64).collect();
        let put = Intervention::replace_with(states.clone()).rows(rows).positions([to as i64]);
        run = run.with(format!("layers.{at}.output"), put);
    }
    let trace = model.trace_with(vec![target.clone(); layers.len()], &run)?;
    let logits = trace.last_logits()?;
    let found = first_tokens(&logits, &targets, options.top)?;
    let continuations = go_on(&model, trace, logits, options.tokens, progress)?;

    let mut rows = Vec::new();
    for (i, tokens) in continuations.into_iter().enumerate() {
        rows.push(Patched {
            layer: layers[i],
            target_layer: into[i],
            top: found.top(&model, i)?,
            targets: found.targets(&model, i, &targets)?,
            continuation: joined(&model, &tokens)?,
            tokens,
        });
    }
    Ok(Patchscope {
        position: from,
        token: readout::text(&model, batch.rows()[0][from])?,
        target_position: to,
        target: target.iter().map(|id| readout::text(&model, *id)).collect::<Result<_>>()?,
        rows,
    })
}

fn target_ids(model: &Model, options: &PatchscopeOptions) -> Result<Vec<u32>> {
    let prompt = options.target.clone().unwrap_or_else(|| IDENTITY.into());
    let batch = model.batch(prompt).map_err(|e| e.context("the target prompt"))?;
    Ok(batch.rows()[0].clone())
}

/// Text of some tokens, or their numbers.
fn joined(model: &Model, tokens: &[u32]) -> Result<String> {
    match model.tokenizer() {
        Ok(tokenizer) => tokenizer.decode(tokens, false),
        Err(_) => Ok(tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
    }
}

/// The first next-token distribution of every row.
struct First(readout::Readout);

fn first_tokens(logits: &Array, targets: &[u32], k: usize) -> Result<First> {
    let rows = logits.dim(0);
    let each = tensor::expand_dims(logits, 0)?;
    let found = readout::read(&each, logits, &vec![targets.to_vec(); rows], k)?;
    found.check(rows, |_, row| format!("row {row} of the patched run"))?;
    Ok(First(found))
}

impl First {
    fn top(&self, model: &Model, row: usize) -> Result<Vec<Cell>> {
        let k = self.0.top.len() / self.0.entropy.len();
        let cell = |i: usize| {
            let (token, probability) = (self.0.top[i], self.0.top_probability[i]);
            Ok(Cell { token, text: readout::text(model, token)?, probability })
        };
        (row * k..(row + 1) * k).map(cell).collect()
    }

    fn targets(&self, model: &Model, row: usize, targets: &[u32]) -> Result<Vec<Standing>> {
        let standing = |(i, token): (usize, &u32)| {
            let at = row * targets.len() + i;
            let (probability, rank) = (self.0.probability[at], self.0.rank[at]);
            Ok(Standing { token: *token, text: readout::text(model, *token)?, probability, rank })
        };
        targets.iter().enumerate().map(standing).collect()
    }
}

/// Greedy continuations of every row of a run that was started with a cache.
fn go_on(
    model: &Model,
    mut trace: Trace,
    mut logits: Array,
    tokens: usize,
    progress: &mut Progress<'_>,
) -> Result<Vec<Vec<u32>>> {
    let rows = trace.batch()?.len();
    let ends = model.tokenizer().map(|t| t.eos_ids().clone()).unwrap_or_default();
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); rows];
    let mut ended = vec![false; rows];
    for step in 0..tokens {
        let best = tensor::argmax(&log_probabilities(&logits)?, -1, false)?;
        let cache = if step + 1 < tokens { Some(trace.cache()?) } else { None };
        let best = best.to_vec::<u32>()?;
        for (row, id) in best.iter().enumerate() {
            ended[row] |= ends.contains(id);
            if !ended[row] {
                found[row].push(*id);
            }
        }
        tell(progress, step as u64 + 1, tokens as u64)?;
        let Some(cache) = cache.filter(|_| ended.iter().any(|e| !e)) else { break };
        let next: Vec<Vec<u32>> = best.into_iter().map(|id| vec![id]).collect();
        trace = model.trace_with(next, &TraceOptions::default().after(&cache))?;
        logits = trace.last_logits()?;
    }
    Ok(found)
}

impl fmt::Display for Patchscope {
    /// A line a layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} (position {}) in {:?}", self.token, self.position, self.target.concat())?;
        writeln!(f, "{:>5}  {:>4}  {:>8}  {:<16} continuation", "layer", "into", "likely", "next token")?;
        for row in &self.rows {
            let (odds, text) = row.top.first().map_or((0.0, ""), |c| (c.probability * 100.0, c.text.as_str()));
            let (layer, into) = (row.layer, row.target_layer);
            write!(f, "{layer:>5}  {into:>4}  {odds:>6.1} %  {:<16} {:?}", format!("{text:?}"), row.continuation)?;
            for s in &row.targets {
                write!(f, "  {:?} {:.1} %, rank {}", s.text, s.probability * 100.0, s.rank)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
