//! Operations that a few families need.

use smallvec::smallvec;

use super::batch::Batch;
use super::kernels::{Made, Surroundings};
use super::recurrent::{part, rows};
use crate::core::arch::tape::Special;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::{Result, bail};

/// Runs instruction number `index`.
pub(super) fn special(op: &Special, index: u32, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    Ok(smallvec![match op {
        Special::BroadcastHeads { n } => {
            let mut shape = x[0].shape().to_vec();
            shape[1] = *n as i32;
            t::broadcast_to(x[0], &shape)?
        }
        Special::PositionAxis { start } => position_axis(x[0], *start, around.batch)?,
        Special::Reshape { shape } => t::reshape(x[0], &shape.iter().map(|d| *d as i32).collect::<Vec<_>>())?,
        Special::Tile { reps } => tile(x[0], reps)?,
        Special::Alibi { slopes } => alibi(x[0].dim(1), slopes, around.batch)?,
        Special::XIelu => xielu(x)?,
        Special::IsStart => is_start(x[0], around.batch)?,
        Special::HeadConv2 => return head_conv2(index, x, around),
        Special::NGramIds { g, vocabulary, modulus } => {
            return ngram_ids(index, x[0], [*g as i64, *vocabulary, *modulus], around);
        }
    }])
}

/// Positions as float32 along the last axis but one; shaped to stand before that axis' features.
fn position_axis(x: &Array, start: i64, batch: &Batch) -> Result<Array> {
    let width = x.dim(-2);
    let first = |s: usize| s as i64 + start;
    if let Some(s) = batch.start() {
        return t::cast(&t::arange(first(s), first(s) + width as i64, Dtype::Int32)?, Dtype::Float32);
    }
    let all: Vec<f32> =
        batch.starts().iter().flat_map(|s| (first(*s)..first(*s) + width as i64).map(|p| p as f32)).collect();
    let mut shape = vec![1; x.ndim() - 1];
    (shape[0], shape[x.ndim() - 2]) = (batch.len(), width);
    Array::from_slice(&all, &shape)
}

fn tile(x: &Array, reps: &[usize]) -> Result<Array> {
    if reps.len() != x.ndim() {
        bail!(Shape, "tile: {} repetitions for an array of shape {:?}", reps.len(), x.shape());
    }
    let mut out = x.clone();
    for (axis, n) in reps.iter().enumerate().filter(|(_, n)| **n > 1) {
        out = t::concatenate(std::iter::repeat_n(&out, *n), axis as i32)?;
    }
    Ok(out)
}

/// Slope times position of every key, those of the cache in front; padding stands nowhere and is masked.
fn alibi(queries: usize, slopes: &[f64], batch: &Batch) -> Result<Array> {
    let slopes: Vec<f32> = slopes.iter().map(|s| *s as f32).collect();
    let slopes = Array::from_slice(&slopes, &[1, slopes.len(), 1, 1])?;
    let keys = batch.past_width() + queries;
    let positions = if batch.has_gaps() {
        Array::from_slice(&batch.column_positions(), &[batch.len(), 1, 1, keys])?
    } else {
        t::reshape(&t::arange(0, keys as i64, Dtype::Int32)?, &[1, 1, 1, -1])?
    };
    t::mul(&slopes, &t::cast(&positions, Dtype::Float32)?)
}

/// `a_p x^2 + b x` above zero, `(expm1(min(x, eps)) - x) a_n + b x` elsewhere; `a_p = softplus(alpha_p)`,
/// `a_n = b + softplus(alpha_n)`.
fn xielu(inputs: &[&Array]) -> Result<Array> {
    let [x, alpha_p, alpha_n, beta, eps] = inputs else { bail!(Backend, "xielu needs five inputs") };
    let softplus = |a: &Array| t::logaddexp(a, &t::weak(0.0, a)?);
    let positive = softplus(alpha_p)?;
    let negative = t::add(beta, &softplus(alpha_n)?)?;
    let linear = t::mul(beta, x)?;
    let above = t::add(&t::mul(&positive, &t::square(x)?)?, &linear)?;
    let below = t::sub(&t::expm1(&t::minimum(x, eps)?)?, x)?;
    let below = t::add(&t::mul(&below, &negative)?, &linear)?;
    let out = t::select(&t::greater(x, &t::weak(0.0, x)?)?, &above, &below)?;
    t::cast(&out, x.dtype())
}

fn is_start(x: &Array, batch: &Batch) -> Result<Array> {
    let (rows, width) = (x.dim(0), x.dim(1));
    let all: Vec<bool> = batch.starts().iter().flat_map(|s| (0..width).map(move |p| s + p == 0)).collect();
    if all.len() != rows * width {
        bail!(Shape, "is_start: {rows} rows in a batch of {}", batch.len());
    }
    Array::from_slice(&all, &[rows, width, 1])
}

fn head_conv2(index: u32, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    let (u, weight) = (x[0], x[1]);
    let (heads, width) = (u.dim(1), u.dim(2));
    let before = match around.past(index) {
        Some([state]) => state.clone(),
        _ => t::full(&[u.dim(0) as i32, heads as i32, 1, u.dim(3) as i32], 0.0, u.dtype())?,
    };
    let all = t::concatenate([&before, u], 2)?;
    let shifted = part(&all, 2, 0, width)?;
    let taps = t::split(&t::reshape(weight, &[1, heads as i32, 2, 1, 1])?, 2, 2)?;
    let tap = |i: usize| t::squeeze(&taps[i], 2);
    let out = t::add(&t::mul(&shifted, &tap(0)?)?, &t::mul(u, &tap(1)?)?)?;
    if around.keeps() {
        let state = rows(around.batch).before_the_end(&all, 2, 1)?;
        around.keep(index, [state]);
    }
    Ok(smallvec![out])
}

/// Tokens before the beginning count as 0.
fn ngram_ids(
    index: u32,
    ids: &Array,
    [g, vocabulary, modulus]: [i64; 3],
    around: &mut Surroundings<'_>,
) -> Result<Made> {
    let ids = t::cast(ids, Dtype::Int64)?;
    let before = (g - 1) as usize;
    let width = ids.dim(1);
    let past = match around.past(index) {
        Some([state]) => state.clone(),
        _ => t::full(&[ids.dim(0) as i32, before as i32], 0.0, Dtype::Int64)?,
    };
    let all = t::concatenate([&past, &ids], 1)?;
    let number = |v: i64| Array::from_slice(&[v], &[]);
    let (mut hash, mut power) = (ids.clone(), 1);
    for k in 1..=before {
        power = power * (vocabulary % modulus) % modulus;
        let shifted = part(&all, 1, before - k, before - k + width)?;
        hash = t::add(&hash, &t::mul(&shifted, &number(power)?)?)?;
    }
    if around.keeps() {
        let state = rows(around.batch).before_the_end(&all, 1, before)?;
        around.keep(index, [state]);
    }
    Ok(smallvec![t::remainder(&hash, &number(modulus)?)?])
}

#[cfg(test)]
mod tests;
