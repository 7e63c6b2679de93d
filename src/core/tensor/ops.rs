//! Lazy operators: each adds a node to MLX's graph and returns at once.

use std::ffi::CStr;

use mlx_sys::{mlx_array, mlx_optional_dtype, mlx_optional_float, mlx_vector_array};

use super::engine::{check, gate, stream};
use super::{Array, Dtype};
use crate::error::{Result, bail};

/// Runs one function of the C layer that writes one array.
pub(super) fn make(f: impl FnOnce(*mut mlx_array, mlx_sys::mlx_stream) -> i32) -> Result<Array> {
    let _gate = gate();
    let stream = stream();
    // SAFETY: an empty handle; freed by `Array` whether or not the call fills it.
    let mut raw = unsafe { mlx_sys::mlx_array_new() };
    let status = f(&mut raw, stream);
    let array = Array::adopt(raw);
    check(status)?;
    Ok(array)
}

/// A list of arrays as the C layer wants it.
pub(super) struct VectorArray(mlx_vector_array);

impl VectorArray {
    pub(super) fn new<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Self {
        // SAFETY: a plain constructor and appends of live handles.
        unsafe {
            let list = mlx_sys::mlx_vector_array_new();
            for a in arrays {
                mlx_sys::mlx_vector_array_append_value(list, a.raw());
            }
            VectorArray(list)
        }
    }

    pub(super) fn raw(&self) -> mlx_vector_array {
        self.0
    }

    /// For a function of the C layer to fill.
    pub(super) fn raw_mut(&mut self) -> *mut mlx_vector_array {
        &mut self.0
    }

    pub(super) fn to_arrays(&self) -> Result<Vec<Array>> {
        Self::arrays_of(self.0)
    }

    /// The arrays of a list that somebody else owns.
    pub(super) fn arrays_of(list: mlx_vector_array) -> Result<Vec<Array>> {
        // SAFETY: indices below the size of a live vector.
        let n = unsafe { mlx_sys::mlx_vector_array_size(list) };
        (0..n).map(|i| make(|res, _| unsafe { mlx_sys::mlx_vector_array_get(res, list, i) })).collect()
    }

    pub(super) fn make(f: impl FnOnce(*mut mlx_vector_array, mlx_sys::mlx_stream) -> i32) -> Result<Vec<Array>> {
        let _gate = gate();
        let mut list = VectorArray::new([]);
        let status = f(&mut list.0, stream());
        check(status)?;
        list.to_arrays()
    }
}

impl Drop for VectorArray {
    fn drop(&mut self) {
        // SAFETY: owned here, freed once.
        unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

pub(super) const NONE: mlx_array = mlx_array { ctx: std::ptr::null_mut() };

/// An array that may be left out, as the C layer wants it.
pub(super) fn some(a: Option<&Array>) -> mlx_array {
    a.map_or(NONE, Array::raw)
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name(a: &Array) -> Result<Array> {
            make(|res, s| unsafe { mlx_sys::$c(res, a.raw(), s) })
        }
    )* };
}

unary! {
    /// `-a`
    neg => mlx_negative;
    /// `e^a`
    exp => mlx_exp;
    /// `e^a - 1`, exact near zero.
    expm1 => mlx_expm1;
    /// Natural logarithm.
    log => mlx_log;
    /// Square root.
    sqrt => mlx_sqrt;
    /// `a * a`
    square => mlx_square;
    /// Absolute value.
    abs => mlx_abs;
    /// Largest integer not above.
    floor => mlx_floor;
    /// Logistic function.
    sigmoid => mlx_sigmoid;
    /// Hyperbolic tangent.
    tanh => mlx_tanh;
    /// Error function.
    erf => mlx_erf;
    /// True where not a number.
    is_nan => mlx_isnan;
    /// Zeros of the same shape and dtype.
    zeros_like => mlx_zeros_like;
    /// Logical negation.
    not => mlx_logical_not;
    /// The same value, as a constant to gradients.
    stop_gradient => mlx_stop_gradient;
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name(a: &Array, b: &Array) -> Result<Array> {
            make(|res, s| unsafe { mlx_sys::$c(res, a.raw(), b.raw(), s) })
        }
    )* };
}

binary! {
    /// `a + b`, broadcast.
    add => mlx_add;
    /// `a - b`, broadcast.
    sub => mlx_subtract;
    /// `a * b`, broadcast.
    mul => mlx_multiply;
    /// `a / b`, broadcast.
    div => mlx_divide;
    /// `a ^ b`, broadcast.
    pow => mlx_power;
    /// Elementwise minimum.
    minimum => mlx_minimum;
    /// Elementwise maximum.
    maximum => mlx_maximum;
    /// `a < b`
    less => mlx_less;
    /// `a <= b`
    less_equal => mlx_less_equal;
    /// `a > b`
    greater => mlx_greater;
    /// `a >= b`
    greater_equal => mlx_greater_equal;
    /// `a == b`
    equal => mlx_equal;
    /// `a != b`
    not_equal => mlx_not_equal;
    /// Logical and.
    and => mlx_logical_and;
    /// Logical or.
    or => mlx_logical_or;
    /// Matrix product over the last two axes, the others broadcast.
    matmul => mlx_matmul;
    /// `log(e^a + e^b)`
    logaddexp => mlx_logaddexp;
}

pub(super) fn raw_remainder(a: &Array, b: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_remainder(res, a.raw(), b.raw(), s) })
}

pub(super) fn raw_floor_div(a: &Array, b: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_floor_divide(res, a.raw(), b.raw(), s) })
}

/// A number in the dtype that lets it meet `like` without changing `like`'s dtype.
pub fn weak(value: f64, like: &Array) -> Result<Array> {
    Array::scalar(value, if like.dtype().is_float() { like.dtype() } else { Dtype::Float32 })
}

/// The same values in another dtype.
pub fn cast(a: &Array, dtype: Dtype) -> Result<Array> {
    if a.dtype() == dtype {
        return Ok(a.clone());
    }
    make(|res, s| unsafe { mlx_sys::mlx_astype(res, a.raw(), dtype.raw(), s) })
}

/// The same bytes read as another dtype.
pub fn view(a: &Array, dtype: Dtype) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_view(res, a.raw(), dtype.raw(), s) })
}

/// `c + a b`
pub fn addmm(c: &Array, a: &Array, b: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_addmm(res, c.raw(), a.raw(), b.raw(), 1.0, 1.0, s) })
}

/// `condition ? a : b`, broadcast.
pub fn select(condition: &Array, a: &Array, b: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_where(res, condition.raw(), a.raw(), b.raw(), s) })
}

/// Values below `low` become `low`, above `high` become `high`.
pub fn clip(a: &Array, low: Option<f64>, high: Option<f64>) -> Result<Array> {
    let low = low.map(|v| weak(v, a)).transpose()?;
    let high = high.map(|v| weak(v, a)).transpose()?;
    make(|res, s| unsafe { mlx_sys::mlx_clip(res, a.raw(), some(low.as_ref()), some(high.as_ref()), s) })
}

macro_rules! reduce {
    ($($(#[$doc:meta])* $name:ident => $c:ident;)*) => { $(
        $(#[$doc])*
        pub fn $name(a: &Array, axis: i32, keep: bool) -> Result<Array> {
            make(|res, s| unsafe { mlx_sys::$c(res, a.raw(), axis, keep, s) })
        }
    )* };
}

reduce! {
    /// Sum along an axis.
    sum => mlx_sum_axis;
    /// Mean along an axis.
    mean => mlx_mean_axis;
    /// Maximum along an axis.
    max => mlx_max_axis;
    /// Minimum along an axis.
    min => mlx_min_axis;
    /// `log sum exp` along an axis.
    logsumexp => mlx_logsumexp_axis;
    /// Index of the maximum along an axis.
    argmax => mlx_argmax_axis;
}

/// Standard deviation along an axis.
pub fn std(a: &Array, axis: i32, keep: bool) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_std_axis(res, a.raw(), axis, keep, 0, s) })
}

/// Sum of all elements.
pub fn sum_all(a: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_sum(res, a.raw(), false, s) })
}

/// Largest of all elements.
pub fn max_all(a: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_max(res, a.raw(), false, s) })
}

/// Whether all elements hold.
pub fn all(a: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_all(res, a.raw(), false, s) })
}

/// Euclidean norm of all elements, in float32.
pub fn norm_all(a: &Array) -> Result<Array> {
    sqrt(&sum_all(&square(&cast(a, Dtype::Float32)?)?)?)
}

/// Euclidean norm along an axis.
pub fn norm(a: &Array, axis: i32, keep: bool) -> Result<Array> {
    sqrt(&sum(&square(a)?, axis, keep)?)
}

/// Rounded to the nearest whole number, to the even one of two that are equally near.
pub fn round(a: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_round(res, a.raw(), 0, s) })
}

/// Softmax along an axis, accumulated in float32.
pub fn softmax(a: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_softmax_axis(res, a.raw(), axis, true, s) })
}

/// Running sums along an axis, each with its own element.
pub fn cumsum(a: &Array, axis: i32) -> Result<Array> {
    let own = mlx_optional_dtype { value: a.dtype().raw(), has_value: false };
    make(|res, s| unsafe { mlx_sys::mlx_cumsum_axis(res, a.raw(), axis, false, true, own, s) })
}

/// The `k` largest values along an axis, in no particular order.
pub fn topk(a: &Array, k: usize, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_topk_axis(res, a.raw(), k as i32, axis, s) })
}

/// Indices that sort an axis upwards.
pub fn argsort(a: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_argsort_axis(res, a.raw(), axis, s) })
}

/// Indices that put the `kth` element in its sorted place.
pub fn argpartition(a: &Array, kth: usize, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_argpartition_axis(res, a.raw(), kth as i32, axis, s) })
}

/// Elements along an axis by index. The caller has checked the indices: MLX does not.
pub fn take(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_take_axis(res, a.raw(), indices.raw(), axis, s) })
}

/// Elements along an axis by an index array of the same rank. The caller has checked the indices.
pub fn take_along(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_take_along_axis(res, a.raw(), indices.raw(), axis, s) })
}

/// A new shape for the same elements; one length may be -1.
pub fn reshape(a: &Array, shape: &[i32]) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_reshape(res, a.raw(), shape.as_ptr(), shape.len(), s) })
}

/// Repeats axes of length 1 up to `shape`, without copying.
pub fn broadcast_to(a: &Array, shape: &[i32]) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_broadcast_to(res, a.raw(), shape.as_ptr(), shape.len(), s) })
}

/// Axes in another order.
pub fn transpose(a: &Array, axes: &[i32]) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_transpose_axes(res, a.raw(), axes.as_ptr(), axes.len(), s) })
}

/// Two axes exchanged.
pub fn swap_axes(a: &Array, x: i32, y: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_swapaxes(res, a.raw(), x, y, s) })
}

/// A new axis of length 1.
pub fn expand_dims(a: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_expand_dims(res, a.raw(), axis, s) })
}

/// An axis of length 1 removed.
pub fn squeeze(a: &Array, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_squeeze_axis(res, a.raw(), axis, s) })
}

/// One axis split into several.
pub fn unflatten(a: &Array, axis: i32, shape: &[i32]) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_unflatten(res, a.raw(), axis, shape.as_ptr(), shape.len(), s) })
}

/// Axes `start..=end` merged into one.
pub fn flatten(a: &Array, start: i32, end: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_flatten(res, a.raw(), start, end, s) })
}

/// Each element `n` times along an axis.
pub fn repeat(a: &Array, n: usize, axis: i32) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_repeat_axis(res, a.raw(), n as i32, axis, s) })
}

/// Arrays joined along an axis.
pub fn concatenate<'a>(arrays: impl IntoIterator<Item = &'a Array>, axis: i32) -> Result<Array> {
    let list = VectorArray::new(arrays);
    make(|res, s| unsafe { mlx_sys::mlx_concatenate_axis(res, list.raw(), axis, s) })
}

/// Arrays joined along a new axis.
pub fn stack<'a>(arrays: impl IntoIterator<Item = &'a Array>, axis: i32) -> Result<Array> {
    let list = VectorArray::new(arrays);
    make(|res, s| unsafe { mlx_sys::mlx_stack_axis(res, list.raw(), axis, s) })
}

/// Parts of an axis that end at the given indices (and the rest).
pub fn split_at(a: &Array, indices: &[i32], axis: i32) -> Result<Vec<Array>> {
    VectorArray::make(|res, s| unsafe {
        mlx_sys::mlx_split_sections(res, a.raw(), indices.as_ptr(), indices.len(), axis, s)
    })
}

/// `n` equal parts of an axis.
pub fn split(a: &Array, n: usize, axis: i32) -> Result<Vec<Array>> {
    VectorArray::make(|res, s| unsafe { mlx_sys::mlx_split(res, a.raw(), n as i32, axis, s) })
}

/// `a[start:stop:step]` on every axis.
pub fn slice(a: &Array, start: &[i32], stop: &[i32], step: &[i32]) -> Result<Array> {
    check_slice(a, start, stop, step)?;
    make(|res, s| unsafe {
        mlx_sys::mlx_slice(
            res,
            a.raw(),
            start.as_ptr(),
            start.len(),
            stop.as_ptr(),
            stop.len(),
            step.as_ptr(),
            step.len(),
            s,
        )
    })
}

/// A copy of `a` in which `a[start:stop:step]` is `update`.
pub fn slice_update(a: &Array, update: &Array, start: &[i32], stop: &[i32], step: &[i32]) -> Result<Array> {
    check_slice(a, start, stop, step)?;
    make(|res, s| unsafe {
        mlx_sys::mlx_slice_update(
            res,
            a.raw(),
            update.raw(),
            start.as_ptr(),
            start.len(),
            stop.as_ptr(),
            stop.len(),
            step.as_ptr(),
            step.len(),
            s,
        )
    })
}

fn check_slice(a: &Array, start: &[i32], stop: &[i32], step: &[i32]) -> Result<()> {
    if [start.len(), stop.len(), step.len()].iter().any(|n| *n != a.ndim()) {
        bail!(Shape, "a slice of an array of shape {:?} needs a start, stop and step for each axis", a.shape());
    }
    if step.contains(&0) {
        bail!(InvalidArgument, "a slice step of 0 never ends");
    }
    Ok(())
}

/// A row-major copy, or the array itself when it is row-major already.
pub fn contiguous(a: &Array) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_contiguous(res, a.raw(), false, s) })
}

/// An array filled with one number.
pub fn full(shape: &[i32], value: f64, dtype: Dtype) -> Result<Array> {
    let v = Array::scalar(value, dtype)?;
    make(|res, s| unsafe { mlx_sys::mlx_full(res, shape.as_ptr(), shape.len(), v.raw(), dtype.raw(), s) })
}

/// `start, start + 1, …` up to `stop`, exclusive.
pub fn arange(start: i64, stop: i64, dtype: Dtype) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_arange(res, start as f64, stop as f64, 1.0, dtype.raw(), s) })
}

/// Independent standard normal numbers from an explicit seed.
pub fn random_normal(shape: &[i32], dtype: Dtype, seed: u64) -> Result<Array> {
    let key = make(|res, _| unsafe { mlx_sys::mlx_random_key(res, seed) })?;
    make(|res, s| unsafe {
        mlx_sys::mlx_random_normal(res, shape.as_ptr(), shape.len(), dtype.raw(), 0.0, 1.0, key.raw(), s)
    })
}

/// Root-mean-square normalisation of the last axis; float32 inside.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f64) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_fast_rms_norm(res, x.raw(), some(weight), eps as f32, s) })
}

/// Layer normalisation of the last axis; float32 inside.
pub fn layer_norm(x: &Array, weight: Option<&Array>, bias: Option<&Array>, eps: f64) -> Result<Array> {
    make(|res, s| unsafe { mlx_sys::mlx_fast_layer_norm(res, x.raw(), some(weight), some(bias), eps as f32, s) })
}

/// Rotary position embedding of the first `dims` features; `freqs` are inverse frequencies' reciprocals as MLX has them.
pub fn rope(
    x: &Array,
    dims: usize,
    interleaved: bool,
    base: Option<f64>,
    scale: f64,
    offset: i32,
    freqs: Option<&Array>,
) -> Result<Array> {
    let base = mlx_optional_float { value: base.unwrap_or(0.0) as f32, has_value: base.is_some() };
    make(|res, s| unsafe {
        mlx_sys::mlx_fast_rope(res, x.raw(), dims as i32, interleaved, base, scale as f32, offset, some(freqs), s)
    })
}

/// What an attention query may see.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Everything.
    None,
    /// Nothing after itself.
    Causal,
    /// A boolean (true = visible) or additive mask that broadcasts to the scores.
    Array(&'a Array),
}

/// Fused attention: `softmax(scale q k^T + mask) v` with grouped key/value heads.
pub fn attention(q: &Array, k: &Array, v: &Array, scale: f64, mask: Mask<'_>, sinks: Option<&Array>) -> Result<Array> {
    let (mode, array): (&CStr, _) = match mask {
        Mask::None => (c"", NONE),
        Mask::Causal => (c"causal", NONE),
        Mask::Array(m) => (c"array", m.raw()),
    };
    make(|res, s| unsafe {
        mlx_sys::mlx_fast_scaled_dot_product_attention(
            res,
            q.raw(),
            k.raw(),
            v.raw(),
            scale as f32,
            mode.as_ptr(),
            array,
            some(sinks),
            false,
            s,
        )
    })
}
