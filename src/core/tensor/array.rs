//! The array: a handle on an MLX value that may not be computed yet.

use std::ffi::c_void;
use std::fmt;

use super::engine::{announce_eval, check, gate, stream};
use super::{Dtype, ops};
use crate::error::{Result, bail};

/// An immutable, lazy, reference-counted array. Cloning shares; nothing is computed before [`Array::eval`].
pub struct Array(mlx_rs::Array);

// SAFETY: MLX reference counts are atomic, an array's value never changes, and all that builds or evaluates graphs goes
// through the gate.
unsafe impl Sync for Array {}

/// What owns bytes that an array borrows; dropped once, when MLX lets go of them.
pub type Owner = Box<dyn std::any::Any + Send>;

impl Clone for Array {
    fn clone(&self) -> Self {
        Array(self.0.clone())
    }
}

impl Array {
    pub(super) fn raw(&self) -> mlx_sys::mlx_array {
        self.0.as_ptr()
    }

    /// Takes a handle of the C layer.
    pub(super) fn adopt(raw: mlx_sys::mlx_array) -> Self {
        // SAFETY: callers pass a fresh handle that nobody else frees.
        Array(unsafe { mlx_rs::Array::from_ptr(raw) })
    }

    /// The mlx-rs array behind it, for Rust callers that use mlx-rs themselves.
    pub fn as_mlx(&self) -> &mlx_rs::Array {
        &self.0
    }

    /// Wraps an mlx-rs array.
    pub fn from_mlx(array: mlx_rs::Array) -> Self {
        Array(array)
    }

    /// Copies elements into a new array. `data` must hold the product of `shape` elements.
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize]) -> Result<Self> {
        // SAFETY: any `Element` may be read as its bytes.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), size_of_val(data)) };
        Self::from_bytes(bytes, shape, T::DTYPE)
    }

    /// Copies raw little-endian elements into a new array.
    pub fn from_bytes(bytes: &[u8], shape: &[usize], dtype: Dtype) -> Result<Self> {
        let dims = checked_shape(shape, dtype, bytes.len())?;
        let _gate = gate();
        stream();
        // SAFETY: the C layer copies `bytes`, whose length was checked against shape and dtype.
        let raw = unsafe {
            mlx_sys::mlx_array_new_data(bytes.as_ptr().cast(), dims.as_ptr(), dims.len() as i32, dtype.raw())
        };
        if raw.ctx.is_null() {
            bail!(Backend, "MLX could not make an array of shape {shape:?}");
        }
        Ok(Self::adopt(raw))
    }

    /// Makes an array whose buffer `fill` writes in place: nothing is copied. `fill` sees zeros.
    pub fn filled(shape: &[usize], dtype: Dtype, fill: impl FnOnce(&mut [u8])) -> Result<Self> {
        let dims: Option<Vec<i32>> = shape.iter().map(|d| i32::try_from(*d).ok()).collect();
        let Some(dims) = dims else { bail!(Shape, "shape {shape:?} has an axis longer than MLX can hold") };
        let array = ops::full(&dims, 0.0, dtype)?;
        array.eval()?;
        if array.size() > 0 {
            // SAFETY: a fresh, evaluated, row-major array that nobody else holds yet.
            fill(unsafe { std::slice::from_raw_parts_mut(array.data()?.cast_mut().cast(), array.byte_size()) });
        }
        Ok(array)
    }

    /// Makes an array over bytes that somebody else owns, without copying where the backend allows it. `owner` is
    /// dropped once MLX no longer needs the bytes, which is at once when it had to copy.
    ///
    /// # Safety
    /// `data` must point to as many bytes as shape and dtype say, aligned for the dtype, unchanged while `owner` lives.
    pub unsafe fn from_owner(data: *mut c_void, shape: &[usize], dtype: Dtype, owner: Owner) -> Result<Self> {
        let bytes = shape.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d));
        let Some(bytes) = bytes else { bail!(InvalidArgument, "shape {shape:?} is too large") };
        let dims = checked_shape(shape, dtype, bytes)?;
        let _gate = gate();
        stream();
        let payload = Box::into_raw(Box::new(owner));
        // SAFETY: the caller's promise; `release` frees the payload exactly once.
        let raw = unsafe {
            mlx_sys::mlx_array_new_data_managed_payload(
                data,
                dims.as_ptr(),
                dims.len() as i32,
                dtype.raw(),
                payload.cast(),
                Some(release),
            )
        };
        if raw.ctx.is_null() {
            bail!(Backend, "MLX could not make an array of shape {shape:?}");
        }
        Ok(Self::adopt(raw))
    }

    /// A scalar. As an operand of the operators here, numbers keep the other operand's dtype.
    pub fn scalar(value: f64, dtype: Dtype) -> Result<Self> {
        stream();
        // SAFETY: a plain constructor.
        let single = Self::adopt(unsafe { mlx_sys::mlx_array_new_float32(value as f32) });
        if dtype == Dtype::Float32 { Ok(single) } else { ops::cast(&single, dtype) }
    }

    /// Number of axes.
    pub fn ndim(&self) -> usize {
        self.0.ndim()
    }

    /// Length of each axis. Known without evaluation.
    pub fn shape(&self) -> &[i32] {
        self.0.shape()
    }

    /// Length of one axis, negative from the end. Panics when there is no such axis.
    pub fn dim(&self, axis: i32) -> usize {
        let n = self.shape();
        let i = if axis < 0 { n.len() as i32 + axis } else { axis };
        n[i as usize] as usize
    }

    /// The shape as unsigned numbers.
    pub fn dims(&self) -> Vec<usize> {
        self.shape().iter().map(|d| *d as usize).collect()
    }

    /// Element type. Known without evaluation.
    pub fn dtype(&self) -> Dtype {
        self.0.dtype().into()
    }

    /// Number of elements.
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Bytes of all elements.
    pub fn byte_size(&self) -> usize {
        self.size() * self.dtype().size()
    }

    /// Steps between neighbours along each axis, in elements. Settled once the array is evaluated.
    pub fn strides(&self) -> Vec<usize> {
        let _gate = gate();
        self.0.strides().to_vec()
    }

    /// Whether the value has been computed.
    pub fn is_evaluated(&self) -> bool {
        let mut yes = false;
        // SAFETY: writes one bool.
        unsafe { mlx_sys::_mlx_array_is_available(&mut yes, self.raw()) };
        yes
    }

    /// Computes the value, and waits for it.
    pub fn eval(&self) -> Result<()> {
        let _gate = gate();
        stream();
        if self.is_evaluated() {
            return Ok(());
        }
        announce_eval();
        // SAFETY: a live handle.
        check(unsafe { mlx_sys::mlx_array_eval(self.raw()) })
    }

    /// Computes several values together, so that what they share is computed once.
    pub fn eval_all<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
        let _gate = gate();
        stream();
        announce_eval();
        let list = ops::VectorArray::new(arrays);
        // SAFETY: a live vector.
        check(unsafe { mlx_sys::mlx_eval(list.raw()) })
    }

    /// Whether the elements lie in row-major order without gaps. Only meaningful once evaluated.
    pub fn is_contiguous(&self) -> bool {
        let strides = self.strides();
        let mut expected = 1;
        for (d, s) in self.shape().iter().zip(strides).rev() {
            if *d != 1 && s != expected {
                return false;
            }
            expected *= *d as usize;
        }
        true
    }

    /// Address of the first element, in the buffer that MLX itself uses. Needs [`Array::eval`] first.
    pub fn data(&self) -> Result<*const c_void> {
        if !self.is_evaluated() {
            bail!(NotEvaluated, "this array of shape {:?} has no data yet: evaluate it first", self.shape());
        }
        // SAFETY: evaluated, so the buffer exists; the C layer only casts the address.
        Ok(unsafe { mlx_sys::mlx_array_data_uint8(self.raw()) }.cast())
    }

    /// Evaluates and copies the elements out in row-major order, cast to `T` where the dtype differs.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let same = if self.dtype() == T::DTYPE { self.clone() } else { ops::cast(self, T::DTYPE)? };
        same.eval()?;
        let flat = if same.is_contiguous() { same } else { ops::contiguous(&same)? };
        flat.eval()?;
        let n = flat.size();
        let mut out = Vec::with_capacity(n);
        if n > 0 {
            // SAFETY: `n` contiguous elements of type T lie at `data`.
            unsafe {
                std::ptr::copy_nonoverlapping(flat.data()?.cast::<T>(), out.as_mut_ptr(), n);
                out.set_len(n);
            }
        }
        Ok(out)
    }

    /// Evaluates and copies the bytes of the elements out, row-major, in the array's own dtype.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.eval()?;
        let flat = if self.is_contiguous() { self.clone() } else { ops::contiguous(self)? };
        flat.eval()?;
        let n = flat.byte_size();
        if n == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: an evaluated array without gaps has this many bytes at `data`, and lives through the copy.
        Ok(unsafe { std::slice::from_raw_parts(flat.data()?.cast::<u8>(), n) }.to_vec())
    }

    /// Evaluates a one-element array.
    pub fn item(&self) -> Result<f64> {
        if self.size() != 1 {
            bail!(Shape, "an array of shape {:?} is not a single number", self.shape());
        }
        Ok(f64::from(self.to_vec::<f32>()?[0]))
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_evaluated() { "evaluated" } else { "lazy" };
        write!(f, "Array({:?}, {}, {state})", self.shape(), self.dtype())
    }
}

/// A Rust type that is an MLX element type.
pub trait Element: Copy + Send + 'static {
    /// The dtype of its elements.
    const DTYPE: Dtype;
}

macro_rules! element {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: Dtype = Dtype::$d; })* };
}
element!(bool => Bool, u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32,
    i64 => Int64, f32 => Float32, half::f16 => Float16, half::bf16 => Bfloat16);

extern "C" fn release(payload: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `from_owner`; MLX calls this once.
    drop(unsafe { Box::from_raw(payload.cast::<Owner>()) });
}

fn checked_shape(shape: &[usize], dtype: Dtype, bytes: usize) -> Result<Vec<i32>> {
    let expected = shape.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d));
    if expected != Some(bytes) {
        bail!(Shape, "{bytes} bytes cannot be a {dtype} array of shape {shape:?}");
    }
    match shape.iter().map(|d| i32::try_from(*d).ok()).collect() {
        Some(dims) => Ok(dims),
        None => bail!(Shape, "shape {shape:?} has an axis longer than MLX can hold ({})", i32::MAX),
    }
}
