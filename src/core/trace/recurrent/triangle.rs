//! What steps of a chunk do to each other: lower triangles over its positions.

use crate::core::tensor::{self as t, Array};
use crate::error::Result;

/// Masks of one chunk length, `[l, l]`, row = the later step.
pub(super) struct Triangle {
    length: usize,
    /// True where the column's step is not after the row's.
    lower: Array,
    /// True where the column's step is before the row's.
    strict: Array,
}

impl Triangle {
    pub fn new(length: usize) -> Result<Self> {
        let lower = mask(length, |i, j| i >= j)?;
        Ok(Triangle { length, lower, strict: mask(length, |i, j| i > j)? })
    }

    /// `x` where the column's step is not after the row's, zero elsewhere.
    pub fn lower(&self, x: &Array) -> Result<Array> {
        t::select(&self.lower, x, &t::weak(0.0, x)?)
    }

    /// `x` where the column's step is before the row's, zero elsewhere.
    pub fn strict(&self, x: &Array) -> Result<Array> {
        t::select(&self.strict, x, &t::weak(0.0, x)?)
    }

    /// `g [.., l] -> [.., l, l]`: for a later step `i` and an earlier one `j`, the sum of `g` over the steps after `j`
    /// up to `i`; zero elsewhere. Each sum adds its own terms, so a small one next to large ones keeps its digits.
    pub fn sums_between(&self, g: &Array) -> Result<Array> {
        let spread = t::expand_dims(g, -1)?;
        t::cumsum(&self.strict(&t::broadcast_to(&spread, &spread_shape(g, self.length))?)?, -2)
    }

    /// As [`Self::sums_between`] for every channel: `g [.., l, d] -> [.., l, l, d]`.
    pub fn sums_between_by_channel(&self, g: &Array) -> Result<Array> {
        let spread = t::expand_dims(g, -2)?;
        let mut shape = spread.shape().to_vec();
        let n = shape.len();
        shape[n - 2] = self.length as i32;
        let strict = t::expand_dims(&self.strict, -1)?;
        let terms = t::select(&strict, &t::broadcast_to(&spread, &shape)?, &t::weak(0.0, g)?)?;
        t::cumsum(&terms, -3)
    }

    /// `(I - n)^-1` of a strictly lower `n [.., l, l]`.
    ///
    /// Inverses of blocks on the diagonal grow from 1 to `l`, two neighbours into one at a time: the corner of two
    /// inverted blocks is what the later block makes of what the earlier one left. No power of `n` is ever formed,
    /// whose entries can be huge where those of the inverse are small.
    pub fn inverse(&self, n: &Array) -> Result<Array> {
        let identity: Vec<f32> =
            (0..self.length * self.length).map(|p| f32::from(p / self.length == p % self.length)).collect();
        let mut inverse = Array::from_slice(&identity, &[self.length, self.length])?;
        let mut size = 1;
        while size < self.length {
            let corner = mask(self.length, |i, j| i / (2 * size) == j / (2 * size) && i / size == j / size + 1)?;
            let corner = t::select(&corner, n, &t::weak(0.0, n)?)?;
            let added = if size == 1 { corner } else { t::matmul(&t::matmul(&inverse, &corner)?, &inverse)? };
            inverse = t::add(&inverse, &added)?;
            size *= 2;
        }
        Ok(inverse)
    }
}

fn mask(length: usize, test: impl Fn(usize, usize) -> bool) -> Result<Array> {
    let all: Vec<bool> = (0..length * length).map(|p| test(p / length, p % length)).collect();
    Array::from_slice(&all, &[length, length])
}

fn spread_shape(g: &Array, length: usize) -> Vec<i32> {
    g.shape().iter().copied().chain([length as i32]).collect()
}
