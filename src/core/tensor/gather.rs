//! Matrix products in which every row chooses its own matrix.

use super::engine::uses_cpu;
use super::ops::{NONE, make, some};
use super::quant::{Quantization, int};
use super::{Array, Dtype, cast, swap_axes};
use crate::error::Result;

/// `x w[choice]^T`: `x` is `[…, 1, in]`, `w` `[matrices, out, in]`, `choice` whole numbers that broadcast to `x`'s
/// leading axes. The caller has checked the choices: MLX does not.
pub fn gather_matmul(x: &Array, w: &Array, choice: &Array) -> Result<Array> {
    // MLX's CPU kernel knows float32 only.
    let working = if uses_cpu() { Dtype::Float32 } else { x.dtype() };
    let (a, w) = (cast(x, working)?, swap_axes(&cast(w, working)?, -1, -2)?);
    let y = make(|res, s| unsafe { mlx_sys::mlx_gather_mm(res, a.raw(), w.raw(), NONE, choice.raw(), false, s) })?;
    cast(&y, x.dtype())
}

/// [`gather_matmul`] with packed matrices.
pub fn gather_quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    choice: &Array,
    q: &Quantization,
) -> Result<Array> {
    let mode = q.mode();
    make(|res, s| unsafe {
        mlx_sys::mlx_gather_qmm(
            res,
            x.raw(),
            w.raw(),
            scales.raw(),
            some(biases),
            NONE,
            choice.raw(),
            true,
            int(q.group_size),
            int(q.bits),
            mode.as_ptr(),
            false,
            s,
        )
    })
}

/// A copy of `a` in which the elements along an axis that `indices` name are `values`. The caller has checked the indices.
pub fn put_along(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_put_along_axis(res, a.raw(), indices.raw(), values.raw(), axis, s) })
}
