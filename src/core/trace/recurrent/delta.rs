//! Memories that are corrected: the gated delta rule (Gated DeltaNet, KDA) and RWKV-7.
//!
//! Both are `state = state diag(e^g) + (state a) b^T + v k^T`, `y = state r`, with a fading `g` of one number a head
//! or of one a channel. In a chunk, what every step finds in the memory (`state a`) depends on what the steps before it
//! corrected: a triangular system, solved for all steps at once.

use super::rows::Rows;
use super::triangle::Triangle;
use super::{dims, f32, joined, part};
use crate::core::tensor::{self as t, Array};
use crate::error::{Result, bail};

/// Steps that are worked out together; where every channel fades on its own a chunk holds its square of each.
const CHUNK: usize = 64;
const CHANNEL_CHUNK: usize = 16;

/// Inputs by head, float32: `[B, H, L, …]`.
struct Steps {
    r: Array,
    k: Array,
    v: Array,
    a: Array,
    /// Same as `k` when none.
    b: Option<Array>,
    /// `[B, H, L]` or `[B, H, L, d_k]`.
    g: Array,
    /// Whether `a` looks at the memory after it has faded in its own step, or before.
    after_fading: bool,
}

/// The gated delta rule. Inputs `q`, `k [B, L, H_k, d_k]`, `v [B, L, H, d_v]`, the logarithms of the gates `g [B, L, H]`
/// or `[B, L, H, d_k]`, and `beta [B, L, H]`. The memory fades, then `beta` of what it says about `k` gives way to `v`;
/// `y = state q`; the state is `[B, H, d_v, d_k]`.
pub(super) fn gated(x: &[&Array], past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let [q, k, v, g, beta] = x else { bail!(Backend, "gated_delta takes five inputs, got {}", x.len()) };
    let (Some([_, _, heads, _]), Some([_, _, key_heads, _])) = (dims(v), dims(k)) else {
        bail!(Shape, "gated_delta needs [row, position, head, feature], found {:?} and {:?}", k.shape(), v.shape());
    };
    if key_heads == 0 || heads % key_heads != 0 || beta.dim(-1) != heads || g.dim(2) != heads {
        bail!(Shape, "gated_delta: {heads} heads share {key_heads} key heads, beta {:?}", beta.shape());
    }
    let spread = |x: &Array| -> Result<Array> {
        let x = if heads == key_heads { f32(x)? } else { t::repeat(&f32(x)?, heads / key_heads, 2)? };
        t::swap_axes(&x, 1, 2)
    };
    let (q, k, v) = (spread(q)?, spread(k)?, t::swap_axes(&f32(v)?, 1, 2)?);
    // Where a row has ended nothing fades and nothing is corrected.
    let g = t::swap_axes(&rows.stilled(&f32(g)?, 1)?, 1, 2)?;
    let beta = t::expand_dims(&t::swap_axes(&rows.stilled(&f32(beta)?, 1)?, 1, 2)?, -1)?;
    let steps = Steps { r: q, a: t::neg(&k)?, k: t::mul(&beta, &k)?, v, b: None, g, after_fading: true };
    finish(&steps, past, rows, x[0])
}

/// RWKV-7's memory. Inputs `r`, the logarithms of the decays `g`, `k`, `v`, `a`, `b`, each `[B, L, H, d]`; the state is
/// `[B, H, d_v, d_k]`.
pub(super) fn wkv7(x: &[&Array], past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let [r, g, k, v, a, b] = x else { bail!(Backend, "wkv7 takes six inputs, got {}", x.len()) };
    if x.iter().any(|a| a.ndim() != 4) {
        bail!(Shape, "wkv7 needs [row, position, head, feature], found {:?}", r.shape());
    }
    let by_head = |x: &Array| t::swap_axes(&f32(x)?, 1, 2);
    let still = |x: &Array| t::swap_axes(&rows.stilled(&f32(x)?, 1)?, 1, 2);
    let steps = Steps {
        r: by_head(r)?,
        k: still(k)?,
        v: by_head(v)?,
        a: by_head(a)?,
        b: Some(still(b)?),
        g: still(g)?,
        after_fading: false,
    };
    finish(&steps, past, rows, r)
}

fn finish(steps: &Steps, past: Option<&Array>, rows: &Rows<'_>, like: &Array) -> Result<(Array, Array)> {
    let state = match past {
        Some(s) => s.clone(),
        None => rows.zeros(&[steps.v.dim(1), steps.v.dim(3), steps.k.dim(3)])?,
    };
    let (y, state) = corrected(steps, state)?;
    Ok((t::cast(&t::swap_axes(&y, 1, 2)?, like.dtype())?, state))
}

fn corrected(steps: &Steps, mut state: Array) -> Result<(Array, Array)> {
    let length = steps.v.dim(2);
    let chunk = if steps.g.ndim() == 4 { CHANNEL_CHUNK } else { CHUNK };
    let (mut ys, mut triangle) = (Vec::new(), Triangle::new(chunk.min(length))?);
    for from in (0..length).step_by(chunk) {
        let to = (from + chunk).min(length);
        if to - from != chunk.min(length) {
            triangle = Triangle::new(to - from)?;
        }
        let (y, after) = one_chunk(&steps.part(from, to)?, &state, &triangle)?;
        state = after;
        ys.push(y);
    }
    Ok((joined(ys, 2)?, state))
}

fn one_chunk(s: &Steps, state: &Array, triangle: &Triangle) -> Result<(Array, Array)> {
    let length = s.v.dim(2);
    let fading = Fading::new(&s.g, triangle)?;
    let seen = fading.seen_by(s.after_fading)?;
    let old = t::swap_axes(state, -1, -2)?;
    let b = s.b.as_ref().unwrap_or(&s.k);

    // What every step finds: of the memory before the chunk, and of what earlier steps wrote.
    let mut found = t::matmul(&seen.since_start(&s.a)?, &old)?;
    if length > 1 {
        let of_values = triangle.strict(&seen.pairs(&s.a, &s.k)?)?;
        let of_found = match &s.b {
            Some(b) => triangle.strict(&seen.pairs(&s.a, b)?)?,
            None => of_values.clone(),
        };
        found = t::add(&found, &t::matmul(&of_values, &s.v)?)?;
        found = t::matmul(&triangle.inverse(&of_found)?, &found)?;
    }
    let after = fading.seen_by(true)?;
    let from_old = t::matmul(&after.since_start(&s.r)?, &old)?;
    let by_key = triangle.lower(&after.pairs(&s.r, &s.k)?)?;
    let (written, y) = match &s.b {
        None => {
            let sum = t::add(&s.v, &found)?;
            let y = t::matmul(&by_key, &sum)?;
            (t::matmul(&t::swap_axes(&sum, -1, -2)?, &fading.to_end(&s.k)?)?, y)
        }
        Some(_) => {
            let by_b = triangle.lower(&after.pairs(&s.r, b)?)?;
            let y = t::add(&t::matmul(&by_key, &s.v)?, &t::matmul(&by_b, &found)?)?;
            let values = t::matmul(&t::swap_axes(&s.v, -1, -2)?, &fading.to_end(&s.k)?)?;
            (t::add(&values, &t::matmul(&t::swap_axes(&found, -1, -2)?, &fading.to_end(b)?)?)?, y)
        }
    };
    Ok((t::add(&y, &from_old)?, t::add(&fading.whole(state)?, &written)?))
}

impl Steps {
    fn part(&self, from: usize, to: usize) -> Result<Steps> {
        let p = |x: &Array| part(x, 2, from, to);
        Ok(Steps {
            r: p(&self.r)?,
            k: p(&self.k)?,
            v: p(&self.v)?,
            a: p(&self.a)?,
            b: self.b.as_ref().map(p).transpose()?,
            g: p(&self.g)?,
            after_fading: self.after_fading,
        })
    }
}

/// How memories fade within a chunk.
struct Fading {
    by_channel: bool,
    /// `[.., l, l]` or `[.., l, l, d]`: what is left of step j after step i.
    between: Array,
    /// `[.., l]` or `[.., l, d]`: what is left of the memory before the chunk after step i.
    from_start: Array,
    length: usize,
}

/// What is left at the moment that each step looks: after its own fading, or before.
struct Seen {
    by_channel: bool,
    between: Array,
    from_start: Array,
}

impl Fading {
    fn new(g: &Array, triangle: &Triangle) -> Result<Self> {
        let by_channel = g.ndim() == 4;
        let sums = if by_channel { triangle.sums_between_by_channel(g)? } else { triangle.sums_between(g)? };
        Ok(Fading { by_channel, between: t::exp(&sums)?, from_start: t::exp(&t::cumsum(g, 2)?)?, length: g.dim(2) })
    }

    fn seen_by(&self, after_fading: bool) -> Result<Seen> {
        if after_fading {
            let (between, from_start) = (self.between.clone(), self.from_start.clone());
            return Ok(Seen { by_channel: self.by_channel, between, from_start });
        }
        // Before its own fading a step sees what was left after the one before it; the first sees everything.
        let earlier = |x: &Array| -> Result<Array> {
            let mut dims = x.shape().to_vec();
            dims[2] = 1;
            let first = t::full(&dims, 1.0, x.dtype())?;
            if self.length == 1 { Ok(first) } else { t::concatenate([&first, &part(x, 2, 0, self.length - 1)?], 2) }
        };
        let (between, from_start) = (earlier(&self.between)?, earlier(&self.from_start)?);
        Ok(Seen { by_channel: self.by_channel, between, from_start })
    }

    /// `x` of every step, as much of it as is left at the chunk's end.
    fn to_end(&self, x: &Array) -> Result<Array> {
        let last = t::squeeze(&part(&self.between, 2, self.length - 1, self.length)?, 2)?;
        t::mul(x, &if self.by_channel { last } else { t::expand_dims(&last, -1)? })
    }

    /// The memory before the chunk `[.., d_v, d_k]`, as much of it as is left at its end.
    fn whole(&self, state: &Array) -> Result<Array> {
        let last = part(&self.from_start, 2, self.length - 1, self.length)?;
        t::mul(state, &if self.by_channel { last } else { t::expand_dims(&last, -1)? })
    }
}

impl Seen {
    /// What a look `x` at the memory before the chunk amounts to.
    fn since_start(&self, x: &Array) -> Result<Array> {
        let from_start = if self.by_channel { self.from_start.clone() } else { t::expand_dims(&self.from_start, -1)? };
        t::mul(x, &from_start)
    }

    /// `[.., l, l]`: how much a look `x_i` finds of what was written under `y_j`.
    fn pairs(&self, x: &Array, y: &Array) -> Result<Array> {
        if !self.by_channel {
            return t::mul(&t::matmul(x, &t::swap_axes(y, -1, -2)?)?, &self.between);
        }
        let product = t::mul(&t::mul(&self.between, &t::expand_dims(x, 3)?)?, &t::expand_dims(y, 2)?)?;
        t::sum(&product, -1, false)
    }
}
