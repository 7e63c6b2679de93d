//! Attention: one fused kernel, or scores, pattern and mix one after another when somebody looks inside.
//!
//! The explicit way takes the same steps in the same order as the fused kernel's own fallback, so on the CPU backend
//! both give the same bits.

use std::collections::HashMap;

use super::batch::{Batch, NOWHERE};
use super::kernels::Surroundings;
use crate::core::arch::tape::{Attention, Instr};
use crate::core::tensor::{self as t, Array, Dtype, Mask};
use crate::error::{Result, bail, err};

/// Queries, keys, window, chunk, causal: all that a mask depends on within a run.
type MaskKey = (usize, usize, Option<usize>, Option<usize>, bool);

/// Masks made once per run; none where everything is visible.
#[derive(Clone, Default)]
pub(super) struct Masks(HashMap<MaskKey, Option<Array>>);

impl Masks {
    /// The boolean mask (true = visible), or none when everything is.
    fn get(&mut self, a: &Attention, queries: usize, keys: usize, batch: &Batch) -> Result<Option<Array>> {
        let key = (queries, keys, a.window, a.chunk, a.causal);
        if let Some(m) = self.0.get(&key) {
            return Ok(m.clone());
        }
        let mask = build_mask(a, queries, keys, batch)?;
        self.0.insert(key, mask.clone());
        Ok(mask)
    }
}

/// What a query may see when nothing comes after it: the mask of plain causal attention.
pub(super) fn causal_mask(queries: usize, keys: usize, around: &mut Surroundings<'_>) -> Result<Option<Array>> {
    let plain = Attention {
        scale: 1.0,
        window: None,
        chunk: None,
        softcap: None,
        causal: true,
        f32: false,
        sinks: None,
        bias: None,
        mask: None,
    };
    around.masks.get(&plain, queries, keys, around.batch)
}

/// Positions of queries `[.., queries, 1]` and keys `[.., 1, keys]`.
pub(super) fn positions(queries: usize, keys: usize, batch: &Batch) -> Result<(Array, Array)> {
    if !batch.has_gaps() || keys != batch.past_width() + batch.width() || queries != batch.width() {
        // Keys are what was seen before and then the queries' own, without gaps.
        let first = keys.saturating_sub(queries) as i64;
        let q = t::expand_dims(&t::arange(first, first + queries as i64, Dtype::Int32)?, 1)?;
        return Ok((q, t::expand_dims(&t::arange(0, keys as i64, Dtype::Int32)?, 0)?));
    }
    let all = Array::from_slice(&batch.column_positions(), &[batch.len(), 1, 1, keys])?;
    let own = t::split_at(&all, &[(keys - queries) as i32], -1)?.swap_remove(1);
    Ok((t::swap_axes(&own, -1, -2)?, all))
}

fn build_mask(a: &Attention, queries: usize, keys: usize, batch: &Batch) -> Result<Option<Array>> {
    let (q, k) = positions(queries, keys, batch)?;
    let mut parts = Vec::new();
    if a.causal {
        parts.push(t::greater_equal(&q, &k)?);
    }
    if let Some(w) = a.window {
        let w = Array::from_slice(&[w as i32], &[])?;
        if a.causal {
            parts.push(t::less(&q, &t::add(&k, &w)?)?);
        } else {
            parts.push(t::less_equal(&t::abs(&t::sub(&q, &k)?)?, &w)?);
        }
    }
    if let Some(c) = a.chunk {
        let c = Array::from_slice(&[c as i32], &[])?;
        parts.push(t::equal(&t::floor_div(&q, &c)?, &t::floor_div(&k, &c)?)?);
    }
    // A causal query never sees the padding, which stands at the end; any other would.
    if !a.causal && batch.is_padded() && !batch.has_gaps() {
        let past = keys.saturating_sub(batch.width());
        let lengths: Vec<i32> = batch.lengths().iter().map(|n| (past + *n) as i32).collect();
        let lengths = Array::from_slice(&lengths, &[lengths.len(), 1, 1, 1])?;
        parts.push(t::less(&k, &lengths)?);
    } else if !a.causal && batch.has_gaps() {
        parts.push(t::less(&k, &Array::from_slice(&[NOWHERE], &[])?)?);
    }
    parts.into_iter().map(Ok).reduce(|m, p| t::and(&m?, &p?)).transpose()
}

/// Sinks, bias and mask follow q, k, v among the inputs, in this order, as far as the attention has them.
struct Extras<'a> {
    sinks: Option<&'a Array>,
    bias: Option<&'a Array>,
    mask: Option<&'a Array>,
}

fn extras<'a>(a: &Attention, instr: &Instr, x: &[&'a Array]) -> Result<Extras<'a>> {
    let find = |slot: Option<u32>| match slot {
        None => Ok(None),
        Some(s) => match instr.inputs.iter().position(|i| *i == s) {
            Some(i) => Ok(Some(x[i])),
            None => Err(err!(Backend, "an attention input is missing from the tape")),
        },
    };
    Ok(Extras { sinks: find(a.sinks)?, bias: find(a.bias)?, mask: find(a.mask)? })
}

fn whole_mask(
    a: &Attention,
    e: &Extras<'_>,
    queries: usize,
    keys: usize,
    around: &mut Surroundings<'_>,
) -> Result<Option<Array>> {
    let own = around.masks.get(a, queries, keys, around.batch)?;
    match (own, e.mask) {
        (Some(m), Some(extra)) => t::and(&m, extra).map(Some),
        (m, extra) => Ok(m.or_else(|| extra.cloned())),
    }
}

/// Queries in the dtype in which the scores are computed.
fn queries_of(a: &Attention, q: &Array) -> Result<Array> {
    if a.f32 { t::cast(q, Dtype::Float32) } else { Ok(q.clone()) }
}

/// Inputs q, k, v (and extras); output z.
pub(super) fn fused(a: &Attention, instr: &Instr, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Array> {
    let e = extras(a, instr, x)?;
    let (q, k, v) = (x[0], x[1], x[2]);
    if a.softcap.is_some() {
        // No fused kernel knows soft-caps.
        let s = scores(a, instr, x, around)?;
        return mix(&softmax_with_sinks(&s, e.sinks)?, v);
    }
    let q = &queries_of(a, q)?;
    let (queries, keys) = (q.dim(2), k.dim(2));
    let simple =
        !around.batch.has_gaps() && a.window.is_none() && a.chunk.is_none() && e.mask.is_none() && e.bias.is_none();
    let z = if simple && a.causal {
        t::attention(q, k, v, a.scale, if queries > 1 { Mask::Causal } else { Mask::None }, e.sinks)?
    } else {
        let mask = whole_mask(a, &e, queries, keys, around)?;
        let additive = match (e.bias, &mask) {
            (Some(b), Some(m)) => {
                let b = t::cast(b, q.dtype())?;
                Some(t::select(m, &b, &t::weak(b.dtype().lowest(), &b)?)?)
            }
            (Some(b), None) => Some(t::cast(b, q.dtype())?),
            (None, _) => mask,
        };
        t::attention(q, k, v, a.scale, additive.as_ref().map_or(Mask::None, Mask::Array), e.sinks)?
    };
    t::cast(&z, v.dtype())
}

/// Inputs q, k (and extras); output the scores `[B,heads,queries,keys]` as the softmax sees them. A hidden key's score
/// is the dtype's most negative finite number.
pub(super) fn scores(a: &Attention, instr: &Instr, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Array> {
    let e = extras(a, instr, x)?;
    let (q, k) = (x[0], x[1]);
    let q = &queries_of(a, q)?;
    let (heads, kv_heads) = (q.dim(1), k.dim(1));
    if !heads.is_multiple_of(kv_heads) {
        bail!(Shape, "{heads} query heads cannot share {kv_heads} key heads");
    }
    let q = t::mul(&t::weak(a.scale, q)?, q)?;
    let mut s = if heads == kv_heads {
        t::matmul(&q, &t::swap_axes(k, -1, -2)?)?
    } else {
        let grouped = t::unflatten(&q, 1, &[kv_heads as i32, (heads / kv_heads) as i32])?;
        let keys = t::swap_axes(&t::expand_dims(k, 2)?, -1, -2)?;
        t::flatten(&t::matmul(&grouped, &keys)?, 1, 2)?
    };
    if let Some(c) = a.softcap {
        let c = t::weak(c, &s)?;
        s = t::mul(&t::tanh(&t::div(&s, &c)?)?, &c)?;
    }
    if let Some(b) = e.bias {
        s = t::add(&s, &t::cast(b, s.dtype())?)?;
    }
    match whole_mask(a, &e, x[0].dim(2), k.dim(2), around)? {
        Some(m) => t::select(&m, &s, &t::weak(s.dtype().lowest(), &s)?),
        None => Ok(s),
    }
}

/// Input scores (and sinks); output the pattern. A row sums to 1, less what the sink took.
pub(super) fn pattern(a: &Attention, instr: &Instr, x: &[&Array]) -> Result<Array> {
    softmax_with_sinks(x[0], extras(a, instr, x)?.sinks)
}

fn softmax_with_sinks(s: &Array, sinks: Option<&Array>) -> Result<Array> {
    let Some(sinks) = sinks else { return t::softmax(s, -1) };
    let shape = [s.dim(0) as i32, s.dim(1) as i32, s.dim(2) as i32, 1];
    let column = t::reshape(&t::cast(sinks, s.dtype())?, &[1, -1, 1, 1])?;
    let all = t::softmax(&t::concatenate([&t::broadcast_to(&column, &shape)?, s], -1)?, -1)?;
    Ok(t::split_at(&all, &[1], -1)?.swap_remove(1))
}

/// Inputs pattern `[B,heads,queries,keys]` and v `[B,kv heads,keys,d]`; output z.
pub(super) fn mix(p: &Array, v: &Array) -> Result<Array> {
    let (heads, kv_heads) = (p.dim(1), v.dim(1));
    let z = if heads == kv_heads {
        t::matmul(p, v)?
    } else {
        let grouped = t::unflatten(p, 1, &[kv_heads as i32, (heads / kv_heads) as i32])?;
        t::flatten(&t::matmul(&grouped, &t::expand_dims(v, 2)?)?, 1, 2)?
    };
    t::cast(&z, v.dtype())
}
