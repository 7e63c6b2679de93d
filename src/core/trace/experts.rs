//! Mixtures of experts, and the other operations that choose.

use super::attention::causal_mask;
use super::batch::Batch;
use super::edit::fit;
use super::kernels::{Made, Surroundings};
use crate::core::arch::tape::{Choice, Weights};
use crate::core::model::{ExpertSite, Inner, Parameters};
use crate::core::tensor::{self as t, Array};
use crate::error::{Result, bail};

/// `x W_e^T (+ b_e)` for every chosen expert: `[B,L,k,1,out]` from `[B,L,in]` or `[B,L,k,1,in]`.
pub(super) fn switch(w: &Weights, bounded: bool, x: &Array, chosen: &Array, p: &Parameters) -> Result<Array> {
    let count = p.tensor(w.weight)?.dim(0);
    let chosen = if bounded { t::stop_gradient(chosen)? } else { within(chosen, count)? };
    let x = if x.ndim() == chosen.ndim() { t::expand_dims(&t::expand_dims(x, -2)?, -2)? } else { x.clone() };
    let y = match p.quantization(w.weight) {
        Some(q) => {
            let (packed, scales, biases) = p.packed(w)?;
            t::gather_quantized_matmul(&x, packed, scales, biases, &chosen, q)?
        }
        None => t::gather_matmul(&x, p.tensor(w.weight)?, &chosen)?,
    };
    match w.bias {
        Some(b) => t::add(&y, &t::expand_dims(&t::take(p.tensor(b)?, &chosen, 0)?, -2)?),
        None => Ok(y),
    }
}

/// Indices that cannot leave an axis of `count`: MLX does not check them. Constants to gradients, which MLX refuses to
/// send through indices.
fn within(indices: &Array, count: usize) -> Result<Array> {
    let last = t::cast(&Array::from_slice(&[count.saturating_sub(1) as i32], &[])?, indices.dtype())?;
    t::stop_gradient(&t::minimum(indices, &last)?)
}

pub(super) fn choose(choice: &Choice, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    let one = match choice {
        Choice::TopK { k, groups, keep, by_best, fill } => {
            let by = x.get(1).copied().unwrap_or(x[0]);
            if *k > by.dim(-1) {
                bail!(Shape, "cannot choose {k} of {}", by.dim(-1));
            }
            let by = if *keep < *groups { of_best_groups(by, *groups, *keep, *by_best, *fill)? } else { by.clone() };
            best(&by, *k)?
        }
        Choice::SparseMixer { k, jitter } => return sparse_mixer(x[0], *k, *jitter),
        Choice::Combine => {
            let weighted = t::mul(x[0], &t::expand_dims(x[1], -1)?)?;
            t::cast(&t::sum(&weighted, -2, false)?, x[0].dtype())?
        }
        Choice::Take => t::take_along(x[0], &within(x[1], x[0].dim(-1))?, -1)?,
        Choice::Gather => t::take(x[0], &within(x[1], x[0].dim(0))?, 0)?,
        Choice::Put => {
            let values = t::cast(x[2], x[0].dtype())?;
            t::put_along(x[0], &within(x[1], x[0].dim(-1))?, &values, -1)?
        }
        Choice::ArgMax => t::argmax(x[0], -1, false)?,
        Choice::ZerosLike => t::zeros_like(x[0])?,
        Choice::TopKMask { k } => best_keys(x[0], *k, around)?,
        Choice::MaskIds(ids) => mask_ids(x[0], ids)?,
        Choice::BlockSparse { block, local, stride } => {
            block_sparse(x[0].dim(1), x[0].dim(2), x[1].dim(2), [*block, *local, *stride], around)?
        }
    };
    Ok(std::iter::once(one).collect())
}

/// Places of the `k` largest along the last axis, the largest first, of equals the first.
fn best(scores: &Array, k: usize) -> Result<Array> {
    let order = t::argsort(&t::neg(scores)?, -1)?;
    t::stop_gradient(&first(&order, k)?)
}

/// The first `n` along the last axis.
fn first(x: &Array, n: usize) -> Result<Array> {
    let (mut stop, ones) = (x.shape().to_vec(), vec![1; x.ndim()]);
    if let Some(last) = stop.last_mut() {
        *last = n as i32;
    }
    t::slice(x, &vec![0; x.ndim()], &stop, &ones)
}

/// Scores in which all but the `keep` best groups count as `fill`.
fn of_best_groups(scores: &Array, groups: usize, keep: usize, by_best: bool, fill: f64) -> Result<Array> {
    if !scores.dim(-1).is_multiple_of(groups) {
        bail!(Shape, "{} scores cannot be split into {groups} groups", scores.dim(-1));
    }
    let grouped = t::unflatten(scores, -1, &[groups as i32, -1])?;
    let score = if by_best || grouped.dim(-1) < 2 {
        t::max(&grouped, -1, false)?
    } else {
        t::sum(&t::topk(&grouped, 2, -1)?, -1, false)?
    };
    let taken = best(&score, keep)?;
    let all = t::broadcast_to(&Array::from_slice(&[false], &[])?, score.shape())?;
    let taken = t::put_along(&all, &taken, &Array::from_slice(&[true], &[1])?, -1)?;
    let kept = t::select(&t::expand_dims(&taken, -1)?, &grouped, &t::weak(fill, &grouped)?)?;
    t::flatten(&kept, -2, -1)
}

/// The `k` best one after another. The weight of each: a softmax over those left that lie close to it.
fn sparse_mixer(scores: &Array, k: usize, jitter: f64) -> Result<Made> {
    let lowest = t::weak(f64::NEG_INFINITY, scores)?;
    let size = t::abs(scores)?;
    let mut left = scores.clone();
    let (mut chosen, mut weights) = (Vec::new(), Vec::new());
    for _ in 0..k {
        let top = t::max(&left, -1, true)?;
        let place = t::stop_gradient(&t::argmax(&left, -1, true)?)?;
        let below = t::div(&t::sub(&top, scores)?, &t::maximum(&size, &top)?)?;
        let far = t::greater(&below, &t::weak(2.0 * jitter, scores)?)?;
        let close = t::softmax(&t::select(&far, &lowest, &left)?, -1)?;
        weights.push(t::take_along(&close, &place, -1)?);
        left = t::put_along(&left, &place, &t::reshape(&lowest, &[1])?, -1)?;
        chosen.push(place);
    }
    Ok([t::concatenate(&chosen, -1)?, t::concatenate(&weights, -1)?].into_iter().collect())
}

fn mask_ids(x: &Array, ids: &[usize]) -> Result<Array> {
    let width = x.dim(-1);
    let mut masked = vec![false; width];
    for id in ids.iter().filter(|id| **id < width) {
        masked[*id] = true;
    }
    t::select(&Array::from_slice(&masked, &[width])?, &t::weak(f64::NEG_INFINITY, x)?, x)
}

/// Whether a key is among the `k` best that its query may see.
fn best_keys(scores: &Array, k: usize, around: &mut Surroundings<'_>) -> Result<Array> {
    let (queries, keys) = (scores.dim(-2), scores.dim(-1));
    let none = t::broadcast_to(&Array::from_slice(&[keys <= k], &[])?, scores.shape())?;
    if keys <= k {
        return Ok(none);
    }
    let mut seen = scores.clone();
    if let Some(mask) = causal_mask(queries, keys, around)? {
        // One mask a row has an axis for heads, which the scores may lack.
        let mask = if mask.ndim() == 4 && scores.ndim() == 3 { t::squeeze(&mask, 1)? } else { mask };
        seen = t::select(&mask, scores, &t::weak(f64::NEG_INFINITY, scores)?)?;
    }
    t::put_along(&none, &best(&seen, k)?, &Array::from_slice(&[true], &[1])?, -1)
}

/// Which keys lie in a block that a query's head looks at.
fn block_sparse(
    heads: usize,
    queries: usize,
    keys: usize,
    [block, local, stride]: [usize; 3],
    around: &mut Surroundings<'_>,
) -> Result<Array> {
    let (q, k) = super::attention::positions(queries, keys, around.batch)?;
    let number = |n: usize| Array::from_slice(&[n as i32], &[]);
    let (q, k) = (t::floor_div(&q, &number(block)?)?, t::floor_div(&k, &number(block)?)?);
    // Heads look at different blocks, as evenly spread as their number allows.
    let step = (stride / heads.max(1)).max(1);
    let offsets: Vec<i32> = (0..heads).map(|h| (h * step + 1) as i32).collect();
    let offsets = Array::from_slice(&offsets, &[heads, 1, 1])?;
    let strided = t::equal(&t::remainder(&t::add(&k, &offsets)?, &number(stride)?)?, &number(0)?)?;
    let near = t::less(&t::sub(&q, &k)?, &number(local)?)?;
    t::and(&t::greater_equal(&q, &k)?, &t::or(&near, &strided)?)
}

/// Where an expert's results stand among all results of its module, batch by position by choice.
pub(super) struct Rows(Vec<u32>);

/// Where expert `x` worked. Needs the choice itself, so it is computed. Padding does not count.
pub(super) fn rows_of(chosen: &Array, x: ExpertSite, model: &Inner, batch: &Batch) -> Result<Rows> {
    let (width, k) = (chosen.dim(1), chosen.dim(2));
    let all = chosen.to_vec::<u32>()?;
    let real = |at: usize| (at / k) % width < batch.lengths().get(at / k / width).copied().unwrap_or(width);
    let own = |at: &usize| all[*at] as usize == x.expert && real(*at);
    let rows: Vec<u32> = (0..all.len()).filter(own).map(|at| at as u32).collect();
    if rows.is_empty() {
        let mut taken: Vec<u32> = (0..all.len()).filter(|at| real(*at)).map(|at| all[at]).collect();
        taken.sort_unstable();
        taken.dedup();
        let shown: Vec<String> = taken.iter().take(16).map(u32::to_string).collect();
        let more = if taken.len() > 16 { ", …" } else { "" };
        let name = model.sites.expert_name(x);
        let chosen = model.slot_name(model.program.experts[x.group].chosen);
        bail!(
            NotExecuted,
            "'{name}' was not computed: no token of this run was routed to expert {}. Chosen were {}{more}; read \
             '{chosen}' to see who went where, or write it to send tokens there",
            x.expert,
            shown.join(", ")
        );
    }
    Ok(Rows(rows))
}

impl Rows {
    fn flat(value: &Array) -> Result<Array> {
        t::reshape(value, &[-1, value.dim(-1) as i32])
    }

    /// The expert's part of a value: `[rows, feature]`.
    pub fn take(&self, value: &Array) -> Result<Array> {
        t::take(&Self::flat(value)?, &Array::from_slice(&self.0, &[self.0.len()])?, 0)
    }

    /// The value with another part in the expert's place.
    pub fn put(&self, old: &Array, part: &Array) -> Result<Array> {
        let flat = Self::flat(old)?;
        let part = fit(part, &self.take(old)?)?;
        let (mut from, mut mine) = (vec![0u32; flat.dim(0)], vec![false; flat.dim(0)]);
        for (n, at) in self.0.iter().enumerate() {
            (from[*at as usize], mine[*at as usize]) = (n as u32, true);
        }
        let spread = t::take(&part, &Array::from_slice(&from, &[from.len()])?, 0)?;
        let new = t::select(&Array::from_slice(&mine, &[mine.len(), 1])?, &spread, &flat)?;
        t::reshape(&new, old.shape())
    }
}

/// Refuses a written choice of something that is not there: MLX does not check indices.
pub(super) fn check_choice(value: &Array, count: usize, site: &str) -> Result<()> {
    let all = value.to_vec::<i64>()?;
    match all.iter().find(|v| **v < 0 || **v >= count as i64) {
        None => Ok(()),
        Some(wrong) => bail!(
            InvalidArgument,
            "'{site}' cannot be {wrong}: it chooses among {count}, 0 to {}",
            count.saturating_sub(1)
        ),
    }
}

#[cfg(test)]
mod tests;
