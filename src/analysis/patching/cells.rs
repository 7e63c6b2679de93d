//! The cells of a grid: every combination of places along the axes.

use super::options::{PatchingAxis, PatchingOptions};
use super::pairs::counted;
use crate::core::model::Model;
use crate::core::trace::Batch;
use crate::error::{Result, bail};
use crate::utils::Axis;

/// What is patched in one run of every prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// Layers, from `first` up to `last`.
    pub first: usize,
    pub last: usize,
    /// Nothing: all.
    pub heads: Option<Vec<usize>>,
    /// Nothing: all.
    pub neurons: Option<Vec<usize>>,
    /// By prompt: positions of the patched run.
    pub positions: Vec<Vec<usize>>,
}

/// A position of a grid: its label, and where it is in each prompt.
struct Place {
    label: String,
    by_prompt: Vec<usize>,
}

/// Axes of a grid and its cells in row-major order. `layers` are those that have the component, `parts` how many heads or
/// neurons it has, `map` what is put where.
pub(super) fn cells(
    model: &Model,
    options: &PatchingOptions,
    layers: &[usize],
    parts: usize,
    base: &Batch,
    map: &[Vec<(usize, usize)>],
    told: bool,
) -> Result<(Vec<Axis>, Vec<Cell>)> {
    let wanted = axes(options)?;
    let has = |axis| wanted.contains(&axis);
    let neuron = options.component == super::Component::Neuron;
    let chosen = if neuron { &options.neurons } else { &options.heads };
    let what = if neuron { "neuron" } else { "head" };
    let chosen = chosen.as_ref().map(|list| numbered(list, parts, what)).transpose()?;
    let one_by_one = has(PatchingAxis::Head) || has(PatchingAxis::Neuron);
    let parts: Vec<Option<Vec<usize>>> = match (one_by_one, chosen) {
        (true, chosen) => chosen.unwrap_or((0..parts).collect()).into_iter().map(|p| Some(vec![p])).collect(),
        (false, chosen) => vec![chosen],
    };
    let places = places(model, options, base, map, told, has(PatchingAxis::Position))?;
    let positions: Vec<Vec<Vec<usize>>> = match has(PatchingAxis::Position) {
        true => places.iter().map(|p| p.by_prompt.iter().map(|at| vec![*at]).collect()).collect(),
        false => vec![all_at_once(options, base, map)?],
    };
    let mut grid_axes = vec![Axis::new("layer", layers.iter().map(usize::to_string))];
    if one_by_one {
        let labels = parts.iter().map(|p| p.as_ref().map_or(String::new(), |p| p[0].to_string()));
        grid_axes.push(Axis::new(what, labels));
    }
    if has(PatchingAxis::Position) {
        grid_axes.push(Axis::new("position", places.into_iter().map(|p| p.label)));
    }
    let mut cells = Vec::new();
    for layer in layers {
        for part in &parts {
            for at in &positions {
                cells.push(Cell {
                    first: *layer,
                    last: *layer,
                    heads: part.clone().filter(|_| !neuron),
                    neurons: part.clone().filter(|_| neuron),
                    positions: at.clone(),
                });
            }
        }
    }
    Ok((grid_axes, cells))
}

/// The axes asked for, in the order in which a grid has them.
fn axes(options: &PatchingOptions) -> Result<Vec<PatchingAxis>> {
    let component = options.component;
    let mut axes = options.axes.clone().unwrap_or_else(|| component.axes());
    axes.sort();
    axes.dedup();
    let neuron = component == super::Component::Neuron;
    if !axes.contains(&PatchingAxis::Layer) {
        bail!(InvalidArgument, "a patching grid has the axis 'layer': add it to `axes`");
    }
    if !component.has_heads() && (axes.contains(&PatchingAxis::Head) || options.heads.is_some()) {
        bail!(InvalidArgument, "'{component}' has no heads: patch q, k, v, z or pattern by head");
    }
    if !neuron && (axes.contains(&PatchingAxis::Neuron) || options.neurons.is_some()) {
        bail!(InvalidArgument, "'{component}' has no neurons: patch the component 'neuron' by neuron");
    }
    Ok(axes)
}

/// Indices from the front, each once, in the given order.
pub(super) fn numbered(list: &[i64], n: usize, what: &str) -> Result<Vec<usize>> {
    if list.is_empty() {
        bail!(InvalidArgument, "an empty list of {what}s: leave it out for all of them");
    }
    let mut out = Vec::new();
    for i in list {
        let at = if *i < 0 { *i + n as i64 } else { *i };
        match usize::try_from(at).ok().filter(|at| *at < n) {
            Some(at) if out.contains(&at) => bail!(InvalidArgument, "{what} {i} is named twice"),
            Some(at) => out.push(at),
            None => bail!(InvalidArgument, "there is no {what} {i}: there are {n}, counted from 0"),
        }
    }
    Ok(out)
}

/// The positions along the axis.
fn places(
    model: &Model,
    options: &PatchingOptions,
    base: &Batch,
    map: &[Vec<(usize, usize)>],
    told: bool,
    asked: bool,
) -> Result<Vec<Place>> {
    if !asked {
        return Ok(Vec::new());
    }
    if let Some(list) = &options.positions {
        let all = chosen(list, base, map)?;
        let place = |i: usize| all.iter().map(|of_prompt| of_prompt[i]).collect::<Vec<_>>();
        return Ok((0..list.len()).map(|i| Place::new(model, base, place(i), Some(list[i]))).collect());
    }
    let n = map[0].len();
    if let Some(other) = map.iter().position(|m| m.len() != n) {
        bail!(
            InvalidArgument,
            "pairs 0 and {other} have {n} and {} positions to patch: a grid over positions needs as many in each. Give \
             `positions` that all have (negative ones count from each prompt's end){}, or leave the axis out",
            map[other].len(),
            if told { "" } else { " or `align`" }
        );
    }
    let place = |i: usize| map.iter().map(|of_pair| of_pair[i].0).collect::<Vec<_>>();
    Ok((0..n).map(|i| Place::new(model, base, place(i), None)).collect())
}

/// By prompt: all positions that are patched together.
fn all_at_once(options: &PatchingOptions, base: &Batch, map: &[Vec<(usize, usize)>]) -> Result<Vec<Vec<usize>>> {
    match &options.positions {
        Some(list) => chosen(list, base, map),
        None => Ok(map.iter().map(|of_pair| of_pair.iter().map(|(to, _)| *to).collect()).collect()),
    }
}

/// By prompt: the positions of a list, which must be among those that something is put to.
fn chosen(list: &[i64], base: &Batch, map: &[Vec<(usize, usize)>]) -> Result<Vec<Vec<usize>>> {
    if list.is_empty() {
        bail!(InvalidArgument, "an empty list of positions: leave it out for all of them");
    }
    let one = |(prompt, of_pair): (usize, &Vec<(usize, usize)>)| {
        let mut out = Vec::new();
        for p in list {
            let at = counted(*p, base.lengths()[prompt], &format!("prompt {prompt}"))?;
            if !of_pair.iter().any(|(to, _)| *to == at) {
                bail!(
                    InvalidArgument,
                    "position {p} of prompt {prompt} is in no pair of `align`: nothing is put there"
                );
            }
            if out.contains(&at) {
                bail!(InvalidArgument, "position {p} of prompt {prompt} is named twice");
            }
            out.push(at);
        }
        Ok(out)
    };
    map.iter().enumerate().map(one).collect()
}

impl Place {
    /// Labelled by number and token where all prompts agree.
    fn new(model: &Model, base: &Batch, by_prompt: Vec<usize>, given: Option<i64>) -> Self {
        let first = by_prompt[0];
        let same = by_prompt.iter().all(|p| *p == first);
        let number = match given {
            Some(given) if !same => given.to_string(),
            _ => first.to_string(),
        };
        let token = |prompt: usize| base.rows()[prompt][by_prompt[prompt]];
        let one_token = (0..by_prompt.len()).all(|prompt| token(prompt) == token(0));
        let text = model.tokenizer().and_then(|t| t.token_to_str(token(0))).ok().filter(|_| one_token);
        let label = text
            .map_or(number.clone(), |text| format!("{number}{}{text}", if text.starts_with(' ') { "" } else { " " }));
        Self { label, by_prompt }
    }
}
