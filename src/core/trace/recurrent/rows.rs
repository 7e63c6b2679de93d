//! Rows of unequal length, padded on the right.

use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::Result;

/// The lengths of a batch's rows within its width.
pub(in crate::core::trace) struct Rows<'a> {
    lengths: &'a [usize],
    width: usize,
}

impl<'a> Rows<'a> {
    pub fn new(lengths: &'a [usize], width: usize) -> Self {
        Rows { lengths, width }
    }

    /// `x` with zeros where its row has ended. `time` is the axis of positions; the first axis is that of rows.
    pub fn stilled(&self, x: &Array, time: usize) -> Result<Array> {
        self.ended_by(0.0, x, time)
    }

    /// As [`Self::stilled`] with another number than zero.
    pub fn ended_by(&self, value: f64, x: &Array, time: usize) -> Result<Array> {
        if !self.is_padded() {
            return Ok(x.clone());
        }
        let own: Vec<bool> = self.lengths.iter().flat_map(|n| (0..self.width).map(move |p| p < *n)).collect();
        let mut shape = vec![1; x.ndim()];
        (shape[0], shape[time]) = (self.lengths.len(), self.width);
        t::select(&Array::from_slice(&own, &shape)?, x, &Array::scalar(value, x.dtype())?)
    }

    /// The `n` values that stand before each row's end along `time`, of an array whose first `n` came before.
    pub fn before_the_end(&self, x: &Array, time: usize, n: usize) -> Result<Array> {
        if !self.is_padded() || n == 0 {
            return super::part(x, time, self.width, self.width + n);
        }
        let places: Vec<i32> = self.lengths.iter().flat_map(|l| (0..n).map(move |k| (l + k) as i32)).collect();
        let mut own = vec![1; x.ndim()];
        (own[0], own[time]) = (self.lengths.len(), n);
        let places = Array::from_slice(&places, &own)?;
        let mut shape = x.shape().to_vec();
        shape[time] = n as i32;
        t::take_along(x, &t::broadcast_to(&places, &shape)?, time as i32)
    }

    /// Zeros of the given shape behind the axis of rows, in float32.
    pub fn zeros(&self, shape: &[usize]) -> Result<Array> {
        let shape: Vec<i32> =
            std::iter::once(self.lengths.len()).chain(shape.iter().copied()).map(|d| d as i32).collect();
        t::full(&shape, 0.0, Dtype::Float32)
    }

    fn is_padded(&self) -> bool {
        self.lengths.iter().any(|n| *n != self.width)
    }
}
