//! Computing what a weight rule says.

use crate::core::arch::{Blocks, Packed, WeightExpr};
use crate::core::tensor::{self as t, Array, Dtype, Quantization};
use crate::error::Result;

/// The value of an expression, lazily; `fetch` brings a tensor of the checkpoint.
pub(super) fn evaluate(expr: &WeightExpr, fetch: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Array> {
    match expr {
        WeightExpr::Raw(name) => fetch(name),
        WeightExpr::Transpose(of) => {
            let a = evaluate(of, fetch)?;
            t::transpose(&a, &(0..a.ndim() as i32).rev().collect::<Vec<_>>())
        }
        WeightExpr::SwapLast(of) => t::swap_axes(&evaluate(of, fetch)?, -1, -2),
        WeightExpr::Squeeze(of) => {
            let a = evaluate(of, fetch)?;
            t::reshape(&a, &a.shape().iter().copied().filter(|d| *d != 1).collect::<Vec<_>>())
        }
        WeightExpr::Add(number, of) => {
            let a = evaluate(of, fetch)?;
            t::add(&a, &t::weak(*number, &a)?)
        }
        WeightExpr::Stack(list) => {
            let all = list.iter().map(|e| evaluate(e, fetch)).collect::<Result<Vec<_>>>()?;
            t::stack(&all, 0)
        }
        WeightExpr::Slice { of, axis, start, stop, step } => {
            let a = evaluate(of, fetch)?;
            let (mut from, mut to, mut by) = (vec![0; a.ndim()], a.shape().to_vec(), vec![1; a.ndim()]);
            (from[*axis], to[*axis], by[*axis]) = (*start as i32, *stop as i32, *step as i32);
            t::slice(&a, &from, &to, &by)
        }
        WeightExpr::Reshape(of, shape) => {
            t::reshape(&evaluate(of, fetch)?, &shape.iter().map(|d| *d as i32).collect::<Vec<_>>())
        }
        WeightExpr::View32(of) => t::flatten(&t::view(&evaluate(of, fetch)?, Dtype::Uint32)?, -2, -1),
        WeightExpr::UnitRows(of) => {
            let own = evaluate(of, fetch)?;
            let a = t::cast(&own, Dtype::Float32)?;
            t::cast(&t::div(&a, &t::norm(&a, -1, true)?)?, own.dtype())
        }
        WeightExpr::Times(number, of) => {
            let a = evaluate(of, fetch)?;
            t::mul(&a, &t::weak(*number, &a)?)
        }
        WeightExpr::Words(of) => t::view(&evaluate(of, fetch)?, Dtype::Uint32),
        WeightExpr::Dequantise(of) => dequantised(of, fetch),
        WeightExpr::Blocks(of) => in_blocks(of, fetch),
    }
}

fn dequantised(packed: &Packed, fetch: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Array> {
    let (weight, scales) = (evaluate(&packed.weight, fetch)?, evaluate(&packed.scales, fetch)?);
    let biases = packed.biases.as_ref().map(|b| evaluate(b, fetch)).transpose()?;
    let q = Quantization { group_size: packed.group_size, bits: packed.bits, mode: packed.mode().to_owned() };
    let dtype = if scales.dtype().is_float() { scales.dtype() } else { Dtype::Float32 };
    t::dequantize(&weight, &scales, biases.as_ref(), &q, dtype)
}

/// What a byte means as a float of one sign, four exponent and three mantissa bits, without infinities.
fn e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(byte >> 3 & 0xf), f32::from(byte & 7));
    sign * match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa * 2f32.powi(-9),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    }
}

fn in_blocks(blocks: &Blocks, fetch: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Array> {
    let bytes = evaluate(&blocks.weight, fetch)?;
    let meaning: Vec<f32> = (0..=u8::MAX).map(e4m3).collect();
    let w = t::take(&Array::from_slice(&meaning, &[meaning.len()])?, &bytes, 0)?;
    let Some(scale) = &blocks.scale else { return Ok(w) };
    let mut scale = t::cast(&evaluate(scale, fetch)?, Dtype::Float32)?;
    if scale.ndim() == w.ndim() && w.ndim() >= 2 {
        let mut stop = scale.shape().to_vec();
        for axis in [w.ndim() - 2, w.ndim() - 1] {
            let (have, want) = (scale.dim(axis as i32), w.dim(axis as i32));
            let of_block = blocks.size[axis + 2 - w.ndim()];
            if have == want.div_ceil(of_block) {
                scale = t::repeat(&scale, of_block, axis as i32)?;
                stop[axis] = want as i32;
            }
        }
        scale = t::slice(&scale, &vec![0; w.ndim()], &stop, &vec![1; w.ndim()])?;
    }
    t::mul(&w, &scale)
}

#[cfg(test)]
mod tests;
