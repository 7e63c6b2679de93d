//! The logit lens: what the model would say if it stopped after each layer (nostalgebraist, 2020,
//! "interpreting GPT: the logit lens").

use serde::Deserialize;

use super::cells::{Cell, LensCell, LogitLens, Reading, Standing};
use super::readout::{self, AT_ONCE, Readout};
use super::{Component, position};
use crate::core::arch::tape::Index;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Head, Place, Trace, at_places};
use crate::error::{Result, bail};
use crate::utils::{Progress, Token, tell};

/// What a lens reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LensOptions {
    /// Which value of each layer.
    pub component: Component,
    /// Layers, negative from the end; all of them by default.
    pub layers: Option<Vec<i64>>,
    /// Positions of every prompt, negative from its own end; all of them by default.
    pub positions: Option<Vec<i64>>,
    /// How many of the likeliest tokens to name in each cell.
    pub top: usize,
    /// Tokens whose probability and rank to tell in every cell.
    pub targets: Vec<Token>,
    /// Whether the embedding is a row of its own, layer -1, before those of `resid_mid` and `resid_post`.
    pub embedding: bool,
}

impl Default for LensOptions {
    fn default() -> Self {
        Self {
            component: Component::default(),
            layers: None,
            positions: None,
            top: 5,
            targets: Vec::new(),
            embedding: true,
        }
    }
}

/// Puts the states of every layer and position through the final norm and the head: one forward, and one projection for
/// as many positions at a time as memory allows. Contributions of attention and MLP are normalised on their own.
pub fn logit_lens(model: &Model, prompts: impl Into<Prompts>, options: &LensOptions) -> Result<LogitLens> {
    lens_of(&model.trace(prompts)?, options, &mut None)
}

/// [`logit_lens`] of a trace, whose interventions it sees; what it reads may still be changed afterwards.
pub fn lens_of(trace: &Trace, options: &LensOptions, progress: &mut Progress<'_>) -> Result<LogitLens> {
    read(trace, options, "logit lens", |_, states| Ok(states), progress)
}

/// A lens that maps the states of each layer (-1: the embedding) before they are read.
pub(super) fn read(
    trace: &Trace,
    options: &LensOptions,
    lens: &'static str,
    map: impl Fn(i64, Array) -> Result<Array>,
    progress: &mut Progress<'_>,
) -> Result<LogitLens> {
    let model = trace.model();
    let batch = trace.batch()?;
    if options.top == 0 {
        bail!(InvalidArgument, "top 0: name at least one token a cell");
    }
    if !batch.is_tokens() {
        bail!(Unsupported, "a lens reads tokens; this model takes arrays");
    }
    let targets = options.targets.iter().map(|t| t.id(&model)).collect::<Result<Vec<u32>>>()?;
    let layers = options.component.layers(&model, options.layers.as_deref())?;
    let mut numbers: Vec<i64> = layers.iter().map(|l| *l as i64).collect();
    let mut sites: Vec<String> = layers.iter().map(|l| options.component.site(*l)).collect();
    if options.embedding && options.component.follows_the_embedding() {
        numbers.insert(0, -1);
        sites.insert(0, "layers.0.resid_pre".to_owned());
    }
    let value = |site: &String| trace.value_of(model.inner().slot(model.sites().resolve(site)?));
    let states = sites.iter().map(value).collect::<Result<Vec<Array>>>()?;
    let asked = read_positions(options.positions.as_deref(), batch.lengths())?;
    let places: Vec<Place> =
        asked.iter().enumerate().flat_map(|(row, all)| all.iter().map(move |p| (row, *p))).collect();
    let rows = batch.rows();
    // The true next token goes first; where there is none the token itself stands in, and is left out again below.
    let wanted = |(row, p): &Place| {
        let next = rows[*row].get(p + 1).unwrap_or(&rows[*row][*p]);
        std::iter::once(*next).chain(targets.iter().copied()).collect::<Vec<u32>>()
    };
    let mut cells: Vec<Vec<LensCell>> = vec![Vec::new(); numbers.len()];
    let each = (AT_ONCE / (numbers.len() * model.vocab_size().max(1))).clamp(1, places.len().max(1));
    let mut head: Option<(usize, Head)> = None;
    for (done, chunk) in places.chunks(each).enumerate() {
        let n = chunk.len();
        if head.as_ref().is_none_or(|(of, _)| *of != n) {
            head = Some((n, Head::new(&model, 1, numbers.len() * n)?));
        }
        let Some((_, head)) = &head else { continue };
        let mapped = numbers.iter().zip(&states).map(|(l, s)| map(*l, at_places(s, chunk)?));
        let mapped = mapped.collect::<Result<Vec<_>>>()?;
        let all = tensor::concatenate(&mapped, 0)?;
        let logits = head.logits(&tensor::expand_dims(&all, 0)?)?;
        let logits = tensor::reshape(&logits, &[numbers.len() as i32, n as i32, -1])?;
        let wanted: Vec<Vec<u32>> = chunk.iter().map(wanted).collect();
        let found = readout::read(&logits, &trace.logits_at(chunk)?, &wanted, options.top)?;
        found.check(n, |layer, place| {
            let (row, p) = chunk[place];
            format!("the {lens} at {}, position {p} of prompt {row}", sites[layer])
        })?;
        for (layer, row) in cells.iter_mut().enumerate() {
            for (i, (r, p)) in chunk.iter().enumerate() {
                row.push(cell(&model, &found, layer * n + i, &wanted[i], p + 1 < rows[*r].len())?);
            }
        }
        tell(progress, ((done * each + n) * numbers.len()) as u64, (places.len() * numbers.len()) as u64)?;
    }
    let target_texts = targets.iter().map(|id| readout::text(&model, *id)).collect::<Result<_>>()?;
    let prompts = readings(&model, rows, &asked, cells)?;
    Ok(LogitLens { lens, component: options.component, layers: numbers, targets: target_texts, prompts })
}

/// The positions to read of each row.
fn read_positions(asked: Option<&[i64]>, lengths: &[usize]) -> Result<Vec<Vec<usize>>> {
    if asked.is_some_and(<[i64]>::is_empty) {
        bail!(InvalidArgument, "no positions: leave them out for all of them");
    }
    let of_row = |(row, length): (usize, &usize)| match asked {
        None => Ok((0..*length).collect()),
        Some(all) => all.iter().map(|p| position(*p, *length, row)).collect(),
    };
    lengths.iter().enumerate().map(of_row).collect()
}

/// One cell of what was read; `wanted` begins with the next token.
fn cell(model: &Model, found: &Readout, at: usize, wanted: &[u32], has_next: bool) -> Result<LensCell> {
    let k = found.top.len() / found.entropy.len();
    let top = (at * k..(at + 1) * k).map(|i| {
        let (token, probability) = (found.top[i], found.top_probability[i]);
        Ok(Cell { token, text: readout::text(model, token)?, probability })
    });
    let standing = |(i, token): (usize, &u32)| {
        let at = at * wanted.len() + i;
        let (probability, rank) = (found.probability[at], found.rank[at]);
        Ok(Standing { token: *token, text: readout::text(model, *token)?, probability, rank })
    };
    let mut standings = wanted.iter().enumerate().map(standing).collect::<Result<Vec<_>>>()?;
    let next = standings.remove(0);
    Ok(LensCell {
        top: top.collect::<Result<_>>()?,
        entropy: found.entropy[at],
        kl: found.kl[at],
        next: has_next.then_some(next),
        targets: standings,
    })
}

/// The cells, which come layer by layer for all prompts one after another, as tables of their own prompts.
fn readings(model: &Model, rows: &[Vec<u32>], asked: &[Vec<usize>], cells: Vec<Vec<LensCell>>) -> Result<Vec<Reading>> {
    let mut columns: Vec<_> = cells.into_iter().map(Vec::into_iter).collect();
    let reading = |(row, positions): (&Vec<u32>, &Vec<usize>)| {
        Ok(Reading {
            tokens: positions.iter().map(|p| readout::text(model, row[*p])).collect::<Result<_>>()?,
            positions: positions.clone(),
            cells: columns.iter_mut().map(|of_layer| of_layer.by_ref().take(positions.len()).collect()).collect(),
        })
    };
    rows.iter().zip(asked).map(reading).collect()
}

/// The `k` most likely tokens after the last token of a row of logits `[rows, positions, vocabulary]`.
pub fn top_tokens(model: &Model, logits: &Array, row: usize, position: i64, k: usize) -> Result<Vec<Cell>> {
    let at = [Index::At(row as i64), Index::At(position)];
    let last = crate::core::trace::subscript(logits, &at)?;
    let probabilities = tensor::softmax(&tensor::cast(&last, Dtype::Float32)?, -1)?.to_vec::<f32>()?;
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let tokenizer = model.tokenizer()?;
    let cell = |id: usize| {
        Ok(Cell { token: id as u32, text: tokenizer.token_to_str(id as u32)?, probability: probabilities[id] })
    };
    order.into_iter().take(k).map(cell).collect()
}
