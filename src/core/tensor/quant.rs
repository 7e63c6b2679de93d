//! Quantised weights as MLX packs them.

use std::ffi::CString;

use mlx_sys::{mlx_optional_dtype, mlx_optional_int};

use super::ops::{NONE, VectorArray, make, some};
use super::{Array, Dtype};
use crate::error::Result;

/// How a weight is packed: `bits` per value, one scale (and bias) per `group_size` values, `mode` as MLX names it
/// (`affine`, `mxfp4`, `mxfp8`, `nvfp4`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Values that share one scale.
    pub group_size: usize,
    /// Bits per value.
    pub bits: usize,
    /// MLX's name of the scheme.
    pub mode: String,
}

impl Quantization {
    pub(super) fn mode(&self) -> CString {
        CString::new(self.mode.as_str()).unwrap_or_default()
    }
}

pub(super) fn int(n: usize) -> mlx_optional_int {
    mlx_optional_int { value: n as i32, has_value: true }
}

/// `[weight, scales]` and, for `affine`, `biases`.
pub fn quantize(w: &Array, q: &Quantization) -> Result<Vec<Array>> {
    let mode = q.mode();
    VectorArray::make(|res, s| unsafe {
        mlx_sys::mlx_quantize(res, w.raw(), int(q.group_size), int(q.bits), mode.as_ptr(), NONE, s)
    })
}

/// The weight in full precision.
pub fn dequantize(w: &Array, scales: &Array, biases: Option<&Array>, q: &Quantization, dtype: Dtype) -> Result<Array> {
    let mode = q.mode();
    let dtype = mlx_optional_dtype { value: dtype.raw(), has_value: true };
    make(|res, s| unsafe {
        mlx_sys::mlx_dequantize(
            res,
            w.raw(),
            scales.raw(),
            some(biases),
            int(q.group_size),
            int(q.bits),
            mode.as_ptr(),
            NONE,
            dtype,
            s,
        )
    })
}

/// `x W^T` with a packed weight.
pub fn quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    q: &Quantization,
) -> Result<Array> {
    let mode = q.mode();
    make(|res, s| unsafe {
        mlx_sys::mlx_quantized_matmul(
            res,
            x.raw(),
            w.raw(),
            scales.raw(),
            some(biases),
            true,
            int(q.group_size),
            int(q.bits),
            mode.as_ptr(),
            s,
        )
    })
}

/// Rows of a packed weight, unpacked. The caller has checked the indices.
pub fn gather_quantized(
    indices: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    q: &Quantization,
    dtype: Dtype,
) -> Result<Array> {
    let w = super::take(w, indices, 0)?;
    let scales = super::take(scales, indices, 0)?;
    let biases = biases.map(|b| super::take(b, indices, 0)).transpose()?;
    dequantize(&w, &scales, biases.as_ref(), q, dtype)
}
