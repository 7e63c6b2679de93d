//! Shapes, parts and combinations of arrays, lazily.

use super::array::{array, dims, hand_out, mlxterp_array};
use super::array_math::axis_of;
use super::door::list;
use super::library::mlxterp_status;
use crate::core::arch::tape::Index;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::core::trace::{subscript, update};
use crate::error::{Result, bail};

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
