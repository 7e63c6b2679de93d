//! Values at chosen positions of many prompts: batch after batch, each prompt run once, whatever is asked of it.

use crate::core::arch::tape::Layout;
use crate::core::model::{Model, SiteId};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Trace, TraceOptions};
use crate::error::{Result, bail};
use crate::utils::{Progress, tell};

/// What is taken of each prompt's positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// Each prompt's own position, counted from its front.
    At(Vec<usize>),
    /// The mean over a prompt's positions, those of special tokens left out.
    Mean,
}

/// Float32 values of sites for prompts, in the prompts' order.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// Names of the sites.
    pub sites: Vec<String>,
    /// Numbers that a site has at one position; heads stand one after another.
    pub widths: Vec<usize>,
    /// `values[site][pick]`: a row of the site's width for each prompt.
    pub values: Vec<Vec<Vec<f32>>>,
}

/// The values of sites (names or patterns) at picked positions of prompts. Memory: what is returned, and one batch.
///
/// Prompts run in order of their length, so that little is padding. Errors name the prompt: a value that is not finite,
/// only special tokens where a mean is asked for; a site without positions; interventions that name rows, since a
/// row's number is its batch's.
pub fn activations(
    model: &Model,
    rows: &[Vec<u32>],
    sites: &[String],
    picks: &[Pick],
    options: &TraceOptions,
    batch_size: usize,
    progress: &mut Progress<'_>,
) -> Result<Activations> {
    if batch_size == 0 {
        bail!(InvalidArgument, "batch_size 0: a batch needs at least one row");
    }
    if let Some((site, i)) = options.interventions.iter().find(|(_, i)| i.names_rows()) {
        bail!(
            InvalidArgument,
            "'{site}': {i} names rows, but the prompts run in batches in an order of their own: choose positions instead"
        );
    }
    let sites = sites_of(model, sites)?;
    let means = picks.contains(&Pick::Mean);
    let counted = if means { counted(model, rows)? } else { Vec::new() };
    let mut out = Activations {
        sites: sites.iter().map(|s| name_of(model, *s)).collect(),
        widths: vec![0; sites.len()],
        values: vec![vec![Vec::new(); picks.len()]; sites.len()],
    };
    let mut done = 0;
    for batch in in_batches(rows, batch_size) {
        let trace = model.trace_with(batch.iter().map(|i| rows[*i].clone()).collect::<Vec<_>>(), options)?;
        let mut taken = Vec::new();
        for site in &sites {
            let value = by_position(&trace, *site)?;
            for pick in picks {
                taken.push(match pick {
                    Pick::At(all) => at(&value, &batch.iter().map(|i| all[*i]).collect::<Vec<_>>())?,
                    Pick::Mean => mean(&value, &batch.iter().map(|i| counted[*i].as_slice()).collect::<Vec<_>>())?,
                });
            }
        }
        Array::eval_all(&taken)?;
        for (k, a) in taken.iter().enumerate() {
            let (s, p, width) = (k / picks.len(), k % picks.len(), a.dim(-1));
            let numbers = a.to_vec::<f32>()?;
            let all = &mut out.values[s][p];
            out.widths[s] = width;
            all.resize(rows.len() * width, 0.0);
            for (i, row) in batch.iter().zip(numbers.chunks_exact(width.max(1))) {
                if row.iter().any(|v| !v.is_finite()) {
                    bail!(InvalidArgument, "'{}' holds infinities or NaN in text {i}", out.sites[s]);
                }
                all[i * width..(i + 1) * width].copy_from_slice(row);
            }
        }
        done += batch.len();
        tell(progress, done as u64, rows.len() as u64)?;
    }
    Ok(out)
}

/// Which rows run together: those of like length, shortest first; rows of one length in their order.
pub fn in_batches(rows: &[Vec<u32>], batch_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| rows[*i].len());
    order.chunks(batch_size.max(1)).map(<[usize]>::to_vec).collect()
}

/// The sites that names or patterns mean.
fn sites_of(model: &Model, patterns: &[String]) -> Result<Vec<SiteId>> {
    let mut sites = Vec::new();
    for pattern in patterns {
        sites.extend(model.sites().resolve_many(pattern)?);
    }
    if sites.is_empty() {
        bail!(InvalidArgument, "no sites: name at least one");
    }
    Ok(sites)
}

fn name_of(model: &Model, site: SiteId) -> String {
    model.sites().standard_name(site).unwrap_or_else(|| model.sites().path(site).to_owned())
}

/// Which positions of each row count in a mean.
fn counted(model: &Model, rows: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
    let special = model.special_ids();
    let one = |(i, row): (usize, &Vec<u32>)| {
        let marks: Vec<bool> = row.iter().map(|t| !special.contains(t)).collect();
        if !marks.contains(&true) {
            bail!(InvalidArgument, "text {i} has special tokens only: there is nothing to take a mean of");
        }
        Ok(marks)
    };
    rows.iter().enumerate().map(one).collect()
}

/// A site's value as float32 `[row, position, number]`: heads stand one after another. Lazy.
pub fn by_position(trace: &Trace, site: SiteId) -> Result<Array> {
    let model = trace.model();
    let value = trace.read(site)?;
    let (n, width) = (value.ndim(), trace.batch()?.width());
    let axis = model.inner().position_axis(site, n).filter(|a| n >= 3 && value.dim(*a as i32) == width);
    // The keys of a score are positions too: which of them were meant, nobody says.
    let features = value.dtype().is_float() && model.inner().layout(site) != Layout::Scores;
    let Some(axis) = axis.filter(|_| features) else {
        bail!(
            InvalidArgument,
            "'{}' has shape {:?} ({}): only values with rows, positions and features can be taken by position",
            name_of(&model, site),
            value.shape(),
            value.dtype()
        );
    };
    let value = if axis == 1 { value } else { tensor::swap_axes(&value, 1, axis as i32)? };
    let numbers: i32 = value.shape()[2..].iter().product();
    let flat = if n == 3 { value } else { tensor::reshape(&value, &[value.shape()[0], value.shape()[1], numbers])? };
    tensor::cast(&flat, Dtype::Float32)
}

/// `[row, number]` at each row's own position.
fn at(value: &Array, positions: &[usize]) -> Result<Array> {
    let (rows, features) = (value.dim(0) as i32, value.dim(2) as i32);
    let at: Vec<i32> = positions.iter().map(|p| *p as i32).collect();
    let at = tensor::broadcast_to(&Array::from_slice(&at, &[at.len(), 1, 1])?, &[rows, 1, features])?;
    tensor::squeeze(&tensor::take_along(value, &at, 1)?, 1)
}

/// `[row, number]`: the mean over each row's marked positions.
fn mean(value: &Array, marks: &[&[bool]]) -> Result<Array> {
    let (rows, width) = (value.dim(0), value.dim(1));
    let flat: Vec<bool> = marks.iter().flat_map(|m| (0..width).map(|p| m.get(p).copied().unwrap_or(false))).collect();
    let shares: Vec<f32> = marks.iter().map(|m| 1.0 / m.iter().filter(|x| **x).count() as f32).collect();
    let mask = Array::from_slice(&flat, &[rows, width, 1])?;
    // Selected, not multiplied: what stands in the padding need not be a number.
    let kept = tensor::select(&mask, value, &Array::scalar(0.0, Dtype::Float32)?)?;
    tensor::mul(&tensor::sum(&kept, 1, false)?, &Array::from_slice(&shares, &[rows, 1])?)
}
