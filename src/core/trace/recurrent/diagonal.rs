//! Recurrences whose every number stands alone: `h = a h + x`. Mamba-1's scan and the RG-LRU.

use super::rows::Rows;
use super::{dims, f32, joined, part};
use crate::core::tensor::{self as t, Array};
use crate::error::{Result, bail};

/// Steps that are worked out together, in as many rounds as they have binary digits. Mamba-1 holds a whole state for
/// every step of a chunk, so its chunks are shorter.
const CHUNK: usize = 64;
const SELECTIVE_CHUNK: usize = 32;

/// Mamba-1's scan. Inputs `x` and `dt [B, L, D]` (positive), `A [D, N]` (negative), `B` and `C [B, L, N]`, `D [D]`.
/// `state = exp(dt A) state + dt x B`, `y = state C + D x`; the state is `[B, D, N]`.
pub(super) fn selective(x: &[&Array], past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let [u, dt, a, b, c, d] = x else { bail!(Backend, "selective_scan takes six inputs, got {}", x.len()) };
    let (Some([_, length, channels]), Some([rates, width])) = (dims(u), dims(a)) else {
        bail!(Shape, "selective_scan needs x [row, position, feature] and A [feature, state], found {:?}", u.shape());
    };
    if rates != channels || dt.dim(-1) != channels || b.dim(-1) != width || c.dim(-1) != width {
        bail!(Shape, "selective_scan: {channels} features meet A {:?}, B {:?}", a.shape(), b.shape());
    }
    let (a, u, b, c) = (f32(a)?, f32(u)?, f32(b)?, f32(c)?);
    // A step of length zero changes nothing.
    let dt = rows.stilled(&f32(dt)?, 1)?;
    let mut state = past.cloned();
    let mut ys = Vec::new();
    for from in (0..length).step_by(SELECTIVE_CHUNK) {
        let to = (from + SELECTIVE_CHUNK).min(length);
        let [u, dt, b, c] = [&u, &dt, &b, &c].map(|x| part(x, 1, from, to));
        let (u, dt, b, c) = (u?, dt?, b?, c?);
        let keep = t::exp(&t::mul(&t::expand_dims(&dt, -1)?, &a)?)?;
        let new = t::mul(&t::expand_dims(&t::mul(&dt, &u)?, -1)?, &t::expand_dims(&b, -2)?)?;
        let all = prefixes(keep, new, state.as_ref())?;
        ys.push(t::squeeze(&t::matmul(&all, &t::expand_dims(&c, -1)?)?, -1)?);
        state = Some(last(&all)?);
    }
    let Some(state) = state else { bail!(Shape, "selective_scan over no positions") };
    let y = t::add(&joined(ys, 1)?, &t::mul(&u, &f32(d)?)?)?;
    Ok((t::cast(&y, x[0].dtype())?, state))
}

/// `h = a h + x` for `x` and `a [B, L, D]`; the state is `[B, D]`.
pub(super) fn linear(x: &[&Array], past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let [new, keep] = x else { bail!(Backend, "linear_scan takes two inputs, got {}", x.len()) };
    if new.ndim() != 3 || new.dims() != keep.dims() {
        bail!(Shape, "linear_scan needs x and a [row, position, feature], found {:?}, {:?}", new.shape(), keep.shape());
    }
    let length = new.dim(1);
    // Where a row has ended nothing comes in and all is kept.
    let (keep, new) = (rows.ended_by(1.0, &f32(keep)?, 1)?, rows.stilled(&f32(new)?, 1)?);
    let mut state = past.cloned();
    let mut ys = Vec::new();
    for from in (0..length).step_by(CHUNK) {
        let to = (from + CHUNK).min(length);
        let all = prefixes(part(&keep, 1, from, to)?, part(&new, 1, from, to)?, state.as_ref())?;
        state = Some(last(&all)?);
        ys.push(all);
    }
    let Some(state) = state else { bail!(Shape, "linear_scan over no positions") };
    Ok((t::cast(&joined(ys, 1)?, x[0].dtype())?, state))
}

/// Every state of `h = keep h + new` along axis 1, from `h` before it on.
///
/// Each round doubles how many steps an entry has taken in: what it has, and what the entry as many steps before it
/// had, faded by what the entry keeps.
fn prefixes(keep: Array, new: Array, before: Option<&Array>) -> Result<Array> {
    let length = new.dim(1);
    let mut new = new;
    if let Some(h) = before {
        let first = t::add(&part(&new, 1, 0, 1)?, &t::mul(&part(&keep, 1, 0, 1)?, &t::expand_dims(h, 1)?)?)?;
        new = if length == 1 { first } else { t::concatenate([&first, &part(&new, 1, 1, length)?], 1)? };
    }
    let (mut keep, mut reach) = (keep, 1);
    while reach < length {
        let later = part(&keep, 1, reach, length)?;
        let taken = t::mul(&later, &part(&new, 1, 0, length - reach)?)?;
        let sum = t::add(&part(&new, 1, reach, length)?, &taken)?;
        new = t::concatenate([&part(&new, 1, 0, reach)?, &sum], 1)?;
        if reach * 2 < length {
            let product = t::mul(&later, &part(&keep, 1, 0, length - reach)?)?;
            keep = t::concatenate([&part(&keep, 1, 0, reach)?, &product], 1)?;
        }
        reach *= 2;
    }
    Ok(new)
}

/// The last entry along axis 1.
fn last(x: &Array) -> Result<Array> {
    let n = x.dim(1);
    t::squeeze(&part(x, 1, n - 1, n)?, 1)
}
