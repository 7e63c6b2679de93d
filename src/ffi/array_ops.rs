//! Lazy operators on handles, so that front ends compute without forcing evaluation.

use super::array::{array, dims, hand_out, mlxterp_array};
use super::door::list;
use super::library::mlxterp_status;
use crate::core::arch::tape::Index;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::core::trace::{subscript, update};
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

/// What a subscript does to an axis.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mlxterp_index_kind {
    /// `start:stop:step`
    MLXTERP_INDEX_SLICE = 0,
    /// One element (`start`); the axis goes.
    MLXTERP_INDEX_AT = 1,
    /// `...`: all axes that no other subscript names.
    MLXTERP_INDEX_ELLIPSIS = 2,
    /// A new axis of length 1.
    MLXTERP_INDEX_NEW_AXIS = 3,
}

/// The value of `start` or `stop` that means it was left out.
pub const MLXTERP_INDEX_NONE: i64 = i64::MIN;

/// One subscript.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct mlxterp_index {
    /// A value of mlxterp_index_kind.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// First element, negative from the end, or MLXTERP_INDEX_NONE.
    pub start: i64,
    /// One past the last element, negative from the end, or MLXTERP_INDEX_NONE.
    pub stop: i64,
    /// Step, 1 or more.
    pub step: i64,
}

pub(super) fn subscripts(at: *const mlxterp_index, count: usize) -> Result<Vec<Index>> {
    let bound = |v: i64| (v != MLXTERP_INDEX_NONE).then_some(v);
    let read = |s: &mlxterp_index| match s.kind {
        0 => Ok(Index::Slice { start: bound(s.start), stop: bound(s.stop), step: s.step }),
        1 => Ok(Index::At(s.start)),
        2 => Ok(Index::Ellipsis),
        3 => Ok(Index::NewAxis),
        other => bail!(InvalidArgument, "subscript kind {other} does not exist"),
    };
    let all: Vec<Index> = list(at, count, "at")?.iter().map(read).collect::<Result<_>>()?;
    if all.iter().filter(|s| **s == Index::Ellipsis).count() > 1 {
        bail!(InvalidArgument, "a subscript can only have one ellipsis");
    }
    Ok(all)
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
            7 | 8 if is_whole(a) && is_whole(b) => whole_division(op == 8, a, b),
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

fn is_whole(a: &Array) -> bool {
    a.dtype().is_int() || a.dtype() == Dtype::Bool
}

/// The quotient or the remainder of whole numbers as numpy has them: rounded down, and 0 where the divisor is 0. MLX
/// rounds towards 0, and its CPU backend ends the process at a divisor of 0, or of -1 under the smallest number.
fn whole_division(quotient: bool, a: &Array, b: &Array) -> Result<Array> {
    let b = if b.dtype() == Dtype::Bool { t::cast(b, Dtype::Uint8)? } else { b.clone() };
    let zero = Array::scalar(0.0, b.dtype())?;
    let one = Array::scalar(1.0, b.dtype())?;
    let is_signed = matches!(b.dtype(), Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64);
    let by_zero = t::equal(&b, &zero)?;
    let by_minus_one = if is_signed { t::equal(&b, &t::neg(&one)?)? } else { t::zeros_like(&by_zero)? };
    let divisor = t::select(&t::or(&by_zero, &by_minus_one)?, &one, &b)?;
    let remainder = t::remainder(a, &divisor)?;
    if !quotient {
        return Ok(remainder);
    }
    let rounded = t::floor_div(a, &divisor)?;
    let signs_differ = t::not_equal(&t::less(a, &zero)?, &t::less(&divisor, &zero)?)?;
    let too_high = t::and(&t::not_equal(&remainder, &zero)?, &signs_differ)?;
    let rounded = t::sub(&rounded, &t::cast(&too_high, rounded.dtype())?)?;
    let rounded = if is_signed { t::select(&by_minus_one, &t::neg(&rounded)?, &rounded)? } else { rounded };
    t::select(&by_zero, &t::zeros_like(&rounded)?, &rounded)
}

fn axis_of(a: &Array, axis: i64) -> Result<i32> {
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

/// The same values in another dtype.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_cast(
    a: *const mlxterp_array,
    dtype: u32,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || t::cast(array(a)?, Dtype::from_number(dtype)?))
}

/// A new shape for the same elements; one length may be -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_reshape(
    a: *const mlxterp_array,
    shape: *const i64,
    ndim: usize,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let shape = list(shape, ndim, "shape")?;
        // MLX itself would multiply two negative lengths and be content.
        if shape.iter().any(|d| *d < -1) || shape.iter().filter(|d| **d == -1).count() > 1 {
            bail!(InvalidArgument, "{shape:?} is no shape: one length may be -1, the others are 0 or more");
        }
        t::reshape(array(a)?, &narrow(shape)?)
    })
}

/// Repeats axes of length 1 up to `shape`, without copying.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_broadcast_to(
    a: *const mlxterp_array,
    shape: *const i64,
    ndim: usize,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || t::broadcast_to(array(a)?, &new_shape(shape, ndim)?))
}

/// Axes in another order, without copying.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_transpose(
    a: *const mlxterp_array,
    axes: *const i64,
    count: usize,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let a = array(a)?;
        let axes = narrow(list(axes, count, "axes")?)?;
        if axes.len() != a.ndim() {
            bail!(InvalidArgument, "{} axes for an array of shape {:?}", axes.len(), a.shape());
        }
        t::transpose(a, &axes)
    })
}

fn narrow(numbers: &[i64]) -> Result<Vec<i32>> {
    match numbers.iter().map(|n| i32::try_from(*n).ok()).collect() {
        Some(all) => Ok(all),
        None => bail!(InvalidArgument, "{numbers:?} has a number beyond 32 bits"),
    }
}

/// Lengths of 0 or more that MLX can hold.
fn new_shape(shape: *const i64, ndim: usize) -> Result<Vec<i32>> {
    narrow(&dims(shape, ndim)?.into_iter().map(|d| d as i64).collect::<Vec<_>>())
}

/// Part of an array: numpy's basic subscripts, without copying.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_index(
    a: *const mlxterp_array,
    at: *const mlxterp_index,
    count: usize,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || subscript(array(a)?, &subscripts(at, count)?))
}

/// A new array like `a` with `value` (broadcast) at the subscripts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_index_update(
    a: *const mlxterp_array,
    at: *const mlxterp_index,
    count: usize,
    value: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || update(array(a)?, &subscripts(at, count)?, array(value)?))
}

/// Arrays joined along an axis.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_concatenate(
    arrays: *const *const mlxterp_array,
    count: usize,
    axis: i64,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let all = list(arrays, count, "arrays")?.iter().map(|a| array(*a)).collect::<Result<Vec<_>>>()?;
        let Some(first) = all.first() else { bail!(InvalidArgument, "nothing to concatenate") };
        t::concatenate(all.iter().copied(), axis_of(first, axis)?)
    })
}

/// Arrays of one shape joined along a new axis.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_stack(
    arrays: *const *const mlxterp_array,
    count: usize,
    axis: i64,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let all = list(arrays, count, "arrays")?.iter().map(|a| array(*a)).collect::<Result<Vec<_>>>()?;
        let Some(first) = all.first() else { bail!(InvalidArgument, "nothing to stack") };
        let n = first.ndim() as i64 + 1;
        if axis < -n || axis >= n {
            bail!(InvalidArgument, "a new axis {axis} cannot be in an array of shape {:?}", first.shape());
        }
        t::stack(all.iter().copied(), axis as i32)
    })
}

/// `condition ? a : b`, broadcast.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_where(
    condition: *const mlxterp_array,
    a: *const mlxterp_array,
    b: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || t::select(array(condition)?, array(a)?, array(b)?))
}

/// Elements along an axis by an index array. Indices are checked, which evaluates them: MLX itself does not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_take(
    a: *const mlxterp_array,
    indices: *const mlxterp_array,
    axis: i64,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let (a, indices) = (array(a)?, array(indices)?);
        let axis = axis_of(a, axis)?;
        if !indices.dtype().is_int() {
            bail!(InvalidArgument, "indices must be integers, not {}", indices.dtype());
        }
        let n = a.dim(axis) as i64;
        if let Some(bad) = indices.to_vec::<i64>()?.into_iter().find(|i| *i < -n || *i >= n) {
            bail!(InvalidArgument, "index {bad} is outside axis {axis} of an array of shape {:?}", a.shape());
        }
        t::take(a, indices, axis)
    })
}

/// Indices that sort the last axis downwards, the first `k` of them: the ids of the top tokens of logits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_topk(
    a: *const mlxterp_array,
    k: usize,
    out_indices: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_indices, || {
        let a = array(a)?;
        if a.ndim() == 0 || k == 0 || k > a.dim(-1) {
            bail!(InvalidArgument, "the top {k} of an array of shape {:?} do not exist", a.shape());
        }
        let order = t::argsort(&t::neg(a)?, -1)?;
        subscript(&order, &[Index::Ellipsis, Index::Slice { start: None, stop: Some(k as i64), step: 1 }])
    })
}

/// One number in a dtype.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_scalar(
    value: f64,
    dtype: u32,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || Array::scalar(value, Dtype::from_number(dtype)?))
}

/// One number in the dtype that lets it meet `like` without changing `like`'s dtype.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_scalar_like(
    value: f64,
    like: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || t::weak(value, array(like)?))
}

/// An array filled with one number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_full(
    shape: *const i64,
    ndim: usize,
    value: f64,
    dtype: u32,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || t::full(&new_shape(shape, ndim)?, value, Dtype::from_number(dtype)?))
}
