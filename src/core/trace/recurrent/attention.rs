//! Linear attention whose memory fades by one factor a head and step: Mamba-2's scan and gated linear attention.

use super::rows::Rows;
use super::triangle::Triangle;
use super::{dims, f32, joined, part, shape};
use crate::core::tensor::{self as t, Array};
use crate::error::{Result, bail};

/// Steps that are worked out together. A chunk costs its square in exponentials, the rest one product with the state.
const CHUNK: usize = 64;

/// Mamba-2's scan. Inputs `x [B, L, H*P]`, `dt [B, L, H]` (positive), `A [H]` (negative), `B` and `C [B, L, G*N]`,
/// `D [H]`. `state = exp(dt A) state + dt x B^T`, `y = state C + D x`; the state is `[B, H, P, N]`.
pub(super) fn ssd(x: &[&Array], groups: usize, past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let [u, dt, a, b, c, d] = x else { bail!(Backend, "ssd takes six inputs, got {}", x.len()) };
    let (Some([batch, length, inner]), Some([_, _, heads])) = (dims(u), dims(dt)) else {
        bail!(Shape, "ssd needs x and dt [row, position, feature], found {:?} and {:?}", u.shape(), dt.shape());
    };
    if heads == 0 || groups == 0 || inner % heads != 0 || heads % groups != 0 || b.dim(-1) % groups != 0 {
        bail!(Shape, "ssd: {inner} features, {heads} heads, {groups} groups and B of {} do not fit", b.dim(-1));
    }
    let (each, width) = (heads / groups, inner / heads);
    let by_head = |x: &Array| -> Result<Array> {
        let x = t::reshape(&f32(x)?, &shape([batch, length, groups, each, x.dim(-1) / heads]))?;
        t::transpose(&x, &[0, 2, 3, 1, 4])
    };
    let by_group = |x: &Array| -> Result<Array> {
        let x = t::reshape(&f32(x)?, &shape([batch, length, groups, 1, x.dim(-1) / groups]))?;
        t::transpose(&x, &[0, 2, 3, 1, 4])
    };
    // A step of length zero changes nothing.
    let dt = by_head(&rows.stilled(&f32(dt)?, 1)?)?;
    let a = t::reshape(&f32(a)?, &shape([groups, each, 1]))?;
    let fade = t::mul(&t::squeeze(&dt, -1)?, &a)?;
    let u = by_head(u)?;
    let state = match past {
        Some(s) => t::reshape(s, &shape([batch, groups, each, width, s.dim(-1)]))?,
        None => rows.zeros(&[groups, each, width, b.dim(-1) / groups])?,
    };
    let first = past.is_none();
    let (y, state) = fading(&by_group(c)?, &by_group(b)?, &t::mul(&dt, &u)?, &fade, state, first)?;
    let skip = t::mul(&u, &t::reshape(&f32(d)?, &shape([groups, each, 1, 1]))?)?;
    let y = t::transpose(&t::add(&y, &skip)?, &[0, 3, 1, 2, 4])?;
    let y = t::reshape(&y, &shape([batch, length, inner]))?;
    let state = t::reshape(&state, &shape([batch, heads, width, state.dim(-1)]))?;
    Ok((t::cast(&y, x[0].dtype())?, state))
}

/// Gated linear attention. Inputs `q`, `k`, `v [B, H, L, d]`; each head's memory fades by `exp(decay[h])` a step:
/// `state = exp(decay) state + v k^T`, `y = scale state q`; the state is `[B, H, d_v, d_k]`.
pub(super) fn gla(
    x: &[&Array],
    decay: &[f64],
    scale: f64,
    past: Option<&Array>,
    rows: &Rows<'_>,
) -> Result<(Array, Array)> {
    let [q, k, v] = x else { bail!(Backend, "gla takes three inputs, got {}", x.len()) };
    let Some([batch, heads, length, _]) = dims(q) else {
        bail!(Shape, "gla needs q [row, head, position, feature], found {:?}", q.shape());
    };
    if decay.len() != heads {
        bail!(Shape, "gla: {} decays for {heads} heads", decay.len());
    }
    let decay: Vec<f32> = decay.iter().map(|d| *d as f32).collect();
    let fade = t::broadcast_to(&Array::from_slice(&decay, &[heads, 1])?, &shape([batch, heads, length]))?;
    let (fade, k) = (rows.stilled(&fade, 2)?, rows.stilled(&f32(k)?, 2)?);
    let q = f32(q)?;
    let q = t::mul(&q, &t::weak(scale, &q)?)?;
    let state = match past {
        Some(s) => s.clone(),
        None => rows.zeros(&[heads, v.dim(-1), k.dim(-1)])?,
    };
    let (y, state) = fading(&q, &k, &f32(v)?, &fade, state, past.is_none())?;
    Ok((t::cast(&y, x[0].dtype())?, state))
}

/// `state = exp(fade) state + v k^T`, `y = state q`, over `q`, `k [.., L, N]`, `v [.., L, P]`, `fade [.., L]` and a
/// state `[.., P, N]` that is all zeros when it is the `first`.
fn fading(q: &Array, k: &Array, v: &Array, fade: &Array, state: Array, first: bool) -> Result<(Array, Array)> {
    let (length, time) = (v.dim(-2), v.ndim() - 2);
    let (mut state, mut empty, mut ys, mut triangle) = (state, first, Vec::new(), Triangle::new(CHUNK.min(length))?);
    for from in (0..length).step_by(CHUNK) {
        let to = (from + CHUNK).min(length);
        if to - from != CHUNK.min(length) {
            triangle = Triangle::new(to - from)?;
        }
        let [q, k, v, fade] = [q, k, v, fade].map(|x| part(x, time, from, to));
        let (q, k, v, fade) = (q?, k?, v?, fade?);
        // How much of step j is left at step i.
        let left = t::exp(&triangle.sums_between(&fade)?)?;
        let scores = t::matmul(&q, &t::swap_axes(&k, -1, -2)?)?;
        let mut y = t::matmul(&triangle.lower(&t::mul(&scores, &left)?)?, &v)?;
        let at_end = t::swap_axes(&part(&left, time, to - from - 1, to - from)?, -1, -2)?;
        let added = t::matmul(&t::swap_axes(&t::mul(&v, &at_end)?, -1, -2)?, &k)?;
        state = if empty {
            added
        } else {
            let since_start = t::exp(&t::cumsum(&fade, -1)?)?;
            let old = t::matmul(&q, &t::swap_axes(&state, -1, -2)?)?;
            y = t::add(&y, &t::mul(&old, &t::expand_dims(&since_start, -1)?)?)?;
            let whole = t::expand_dims(&part(&since_start, time, to - from - 1, to - from)?, -1)?;
            t::add(&t::mul(&state, &whole)?, &added)?
        };
        empty = false;
        ys.push(y);
    }
    Ok((joined(ys, -2)?, state))
}
