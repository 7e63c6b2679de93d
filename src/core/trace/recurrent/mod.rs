//! Convolutions over time and recurrences: what a token mixer without attention computes.
//!
//! Each is a function of its inputs and the state before, and gives the state after. Everything is worked out in
//! float32 whatever the inputs are, and the result comes back in their dtype; states stay float32. Long inputs go in
//! chunks: inside a chunk everything is a few matrix products, from chunk to chunk only the state is handed on, so the
//! graph grows with the number of chunks and not of tokens. No form divides by a decay: products of decays are sums
//! of their logarithms over the very steps between, so they are as exact as a loop over time.
//!
//! Rows are padded on the right. A recurrence is told to stand still where a row has ended, so its last state is the
//! state at the row's own end.

mod attention;
mod conv;
mod delta;
mod diagonal;
mod rows;
#[cfg(test)]
mod tests;
mod triangle;

use rows::Rows;

use super::batch::Batch;
use super::kernels::{Made, Surroundings};
use crate::core::arch::tape::Recurrence;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::Result;

/// A depthwise causal convolution; it remembers the inputs that its next taps reach back to.
pub(super) fn convolution(
    index: u32,
    x: &Array,
    weight: &Array,
    bias: Option<&Array>,
    around: &mut Surroundings<'_>,
) -> Result<Array> {
    let rows = rows(around.batch);
    let past = around.past(index).and_then(|s| s.first()).cloned();
    let (y, tail) = conv::causal(x, weight, bias, past.as_ref(), &rows)?;
    around.keep(index, tail);
    Ok(y)
}

/// The token before each one; it remembers each row's last.
pub(super) fn token_shift(index: u32, x: &Array, around: &mut Surroundings<'_>) -> Result<Array> {
    let rows = rows(around.batch);
    let past = around.past(index).and_then(|s| s.first()).cloned();
    let (y, last) = conv::shift(x, past.as_ref(), &rows)?;
    around.keep(index, [last]);
    Ok(y)
}

/// A recurrence: its values, and the state after the row's last token.
pub(super) fn run(kind: &Recurrence, memory: u32, x: &[&Array], around: &Surroundings<'_>) -> Result<Made> {
    let past = around.past(memory).and_then(|s| s.first());
    let (y, state) = scan(kind, x, past, &rows(around.batch))?;
    Ok([y, state].into_iter().collect())
}

fn scan(kind: &Recurrence, x: &[&Array], past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    match kind {
        Recurrence::Ssd { groups } => attention::ssd(x, *groups, past, rows),
        Recurrence::Gla { decay, scale } => attention::gla(x, decay, *scale, past, rows),
        Recurrence::GatedDelta => delta::gated(x, past, rows),
        Recurrence::Wkv7 => delta::wkv7(x, past, rows),
        Recurrence::SelectiveScan => diagonal::selective(x, past, rows),
        Recurrence::LinearScan => diagonal::linear(x, past, rows),
    }
}

pub(super) fn rows(batch: &Batch) -> Rows<'_> {
    Rows::new(batch.lengths(), batch.width())
}

fn f32(x: &Array) -> Result<Array> {
    t::cast(x, Dtype::Float32)
}

/// The lengths of `N` axes, if there are so many.
fn dims<const N: usize>(x: &Array) -> Option<[usize; N]> {
    x.dims().try_into().ok()
}

/// Elements `from..to` of an axis.
pub(super) fn part(x: &Array, axis: usize, from: usize, to: usize) -> Result<Array> {
    let (mut start, mut stop) = (vec![0; x.ndim()], x.shape().to_vec());
    (start[axis], stop[axis]) = (from as i32, to as i32);
    t::slice(x, &start, &stop, &vec![1; x.ndim()])
}

/// A shape as MLX wants it.
fn shape<const N: usize>(dims: [usize; N]) -> [i32; N] {
    dims.map(|d| d as i32)
}

/// Puts chunks back together along an axis.
fn joined(mut chunks: Vec<Array>, axis: i32) -> Result<Array> {
    if chunks.len() == 1 { Ok(chunks.swap_remove(0)) } else { t::concatenate(&chunks, axis) }
}
