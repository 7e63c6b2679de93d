//! Arithmetic on handles, lazily: front ends compute without forcing evaluation.

use super::array::{array, hand_out, mlxterp_array};
use super::library::mlxterp_status;
use crate::core::tensor::{self as t, Array};
use crate::error::{Result, bail};

/// Elementwise functions of one array.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum mlxterp_unary {
    MLXTERP_UNARY_NEGATIVE = 0,
    MLXTERP_UNARY_EXP = 1,
    MLXTERP_UNARY_LOG = 2,
    MLXTERP_UNARY_SQRT = 3,
    MLXTERP_UNARY_SQUARE = 4,
    MLXTERP_UNARY_ABS = 5,
    MLXTERP_UNARY_FLOOR = 6,
    MLXTERP_UNARY_SIGMOID = 7,
    MLXTERP_UNARY_TANH = 8,
    MLXTERP_UNARY_IS_NAN = 9,
    MLXTERP_UNARY_NOT = 10,
    MLXTERP_UNARY_ZEROS_LIKE = 11,
}

/// Elementwise functions of two arrays, broadcast. A one-element operand made by mlxterp_array_scalar_like keeps the
/// other's dtype.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum mlxterp_binary {
    MLXTERP_BINARY_ADD = 0,
    MLXTERP_BINARY_SUBTRACT = 1,
    MLXTERP_BINARY_MULTIPLY = 2,
    MLXTERP_BINARY_DIVIDE = 3,
    MLXTERP_BINARY_POWER = 4,
    MLXTERP_BINARY_MINIMUM = 5,
    MLXTERP_BINARY_MAXIMUM = 6,
    MLXTERP_BINARY_REMAINDER = 7,
    MLXTERP_BINARY_FLOOR_DIVIDE = 8,
    MLXTERP_BINARY_LESS = 9,
    MLXTERP_BINARY_LESS_EQUAL = 10,
    MLXTERP_BINARY_GREATER = 11,
    MLXTERP_BINARY_GREATER_EQUAL = 12,
    MLXTERP_BINARY_EQUAL = 13,
    MLXTERP_BINARY_NOT_EQUAL = 14,
    MLXTERP_BINARY_AND = 15,
    MLXTERP_BINARY_OR = 16,
    MLXTERP_BINARY_MATMUL = 17,
}

/// Functions along one axis.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum mlxterp_reduce {
    MLXTERP_REDUCE_SUM = 0,
    MLXTERP_REDUCE_MEAN = 1,
    MLXTERP_REDUCE_MAX = 2,
    MLXTERP_REDUCE_MIN = 3,
    MLXTERP_REDUCE_STD = 4,
    MLXTERP_REDUCE_NORM = 5,
    MLXTERP_REDUCE_LOGSUMEXP = 6,
    MLXTERP_REDUCE_ARGMAX = 7,
}

/// Applies a value of mlxterp_unary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_unary(
    op: u32,
    a: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let a = array(a)?;
        match op {
            0 => t::neg(a),
            1 => t::exp(a),
            2 => t::log(a),
            3 => t::sqrt(a),
            4 => t::square(a),
            5 => t::abs(a),
            6 => t::floor(a),
            7 => t::sigmoid(a),
            8 => t::tanh(a),
            9 => t::is_nan(a),
            10 => t::not(a),
            11 => t::zeros_like(a),
            other => bail!(InvalidArgument, "unary operation {other} does not exist"),
        }
    })
}

/// Applies a value of mlxterp_binary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_binary(
    op: u32,
    a: *const mlxterp_array,
    b: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let (a, b) = (array(a)?, array(b)?);
        match op {
            0 => t::add(a, b),
            1 => t::sub(a, b),
            2 => t::mul(a, b),
            3 => t::div(a, b),
            4 => t::pow(a, b),
            5 => t::minimum(a, b),
            6 => t::maximum(a, b),
            7 => t::remainder(a, b),
            8 => t::floor_div(a, b),
            9 => t::less(a, b),
            10 => t::less_equal(a, b),
            11 => t::greater(a, b),
            12 => t::greater_equal(a, b),
            13 => t::equal(a, b),
            14 => t::not_equal(a, b),
            15 => t::and(a, b),
            16 => t::or(a, b),
            17 => t::matmul(a, b),
            other => bail!(InvalidArgument, "binary operation {other} does not exist"),
        }
    })
}

pub(super) fn axis_of(a: &Array, axis: i64) -> Result<i32> {
    let n = a.ndim() as i64;
    if axis < -n || axis >= n {
        bail!(InvalidArgument, "axis {axis} does not exist in an array of shape {:?}", a.shape());
    }
    Ok(axis as i32)
}

/// Applies a value of mlxterp_reduce along an axis, negative from the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_reduce(
    op: u32,
    a: *const mlxterp_array,
    axis: i64,
    keep_axis: bool,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let a = array(a)?;
        let axis = axis_of(a, axis)?;
        match op {
            0 => t::sum(a, axis, keep_axis),
            1 => t::mean(a, axis, keep_axis),
            2 => t::max(a, axis, keep_axis),
            3 => t::min(a, axis, keep_axis),
            4 => t::std(a, axis, keep_axis),
            5 => t::norm(a, axis, keep_axis),
            6 => t::logsumexp(a, axis, keep_axis),
            7 => t::argmax(a, axis, keep_axis),
            other => bail!(InvalidArgument, "reduction {other} does not exist"),
        }
    })
}

/// Softmax along an axis, accumulated in float32.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_softmax(
    a: *const mlxterp_array,
    axis: i64,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let a = array(a)?;
        t::softmax(a, axis_of(a, axis)?)
    })
}
