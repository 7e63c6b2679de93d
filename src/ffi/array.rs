//! Arrays: lazy values, their data, and exchange without copies.

use std::ffi::{c_char, c_void};
use std::sync::OnceLock;

use super::door::{door, hand_out_text, list, output};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use crate::core::tensor::{self, Array, DLManagedTensorVersioned, Dtype};
use crate::error::{Result, bail, err};

/// A lazy, immutable value. Reference-counted; any thread may use it.
pub struct mlxterp_array {
    pub(super) array: Array,
    /// Shape as 64-bit numbers, for the getter that lends it.
    shape: OnceLock<Vec<i64>>,
    strides: OnceLock<Vec<i64>>,
}

impl Handle for mlxterp_array {
    const NOUN: &'static str = "array";
}

impl mlxterp_array {
    pub(super) fn new(array: Array) -> Self {
        Self { array, shape: OnceLock::new(), strides: OnceLock::new() }
    }

    fn shape(&self) -> &[i64] {
        self.shape.get_or_init(|| self.array.shape().iter().map(|d| i64::from(*d)).collect())
    }
}

/// Element types. Numbers are never used for anything else.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum mlxterp_dtype {
    MLXTERP_DTYPE_BOOL = 0,
    MLXTERP_DTYPE_UINT8 = 1,
    MLXTERP_DTYPE_UINT16 = 2,
    MLXTERP_DTYPE_UINT32 = 3,
    MLXTERP_DTYPE_UINT64 = 4,
    MLXTERP_DTYPE_INT8 = 5,
    MLXTERP_DTYPE_INT16 = 6,
    MLXTERP_DTYPE_INT32 = 7,
    MLXTERP_DTYPE_INT64 = 8,
    MLXTERP_DTYPE_FLOAT16 = 9,
    MLXTERP_DTYPE_FLOAT32 = 10,
    MLXTERP_DTYPE_FLOAT64 = 11,
    MLXTERP_DTYPE_BFLOAT16 = 12,
    MLXTERP_DTYPE_COMPLEX64 = 13,
}

pub(super) fn hand_out(out: *mut *mut mlxterp_array, work: impl FnOnce() -> Result<Array>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_array")?;
        let array = work()?;
        addressable(&array)?;
        *out = give(mlxterp_array::new(array));
        Ok(())
    })
}

/// Refuses what no memory can hold: MLX counts its bytes without looking for overflow. A lazy array can be that large
/// without anybody noticing, by broadcasting.
fn addressable(array: &Array) -> Result<()> {
    let mut lengths = array.shape().iter().map(|d| i64::from(*d));
    let bytes = lengths.try_fold(array.dtype().size() as i64, |n, d| n.checked_mul(d));
    if bytes.is_none_or(|n| n > i64::MAX / 2) {
        bail!(InvalidArgument, "an array of shape {:?} is larger than memory can be", array.shape());
    }
    Ok(())
}

/// Refuses to compute what the machine's memory cannot hold: MLX's CPU backend does not look whether it got the memory
/// that it asked for.
fn fits_in_memory(array: &Array) -> Result<()> {
    // SAFETY: plain questions; an answer below 0 means that the system does not know.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let memory = pages.saturating_mul(page);
    if pages > 0 && page > 0 && !array.is_evaluated() && array.byte_size() as u64 > memory as u64 {
        let (shape, needed) = (array.shape(), array.byte_size());
        bail!(Backend, "an array of shape {shape:?} needs {needed} bytes, and this machine has {memory}");
    }
    Ok(())
}

pub(super) fn array<'a>(handle: *const mlxterp_array) -> Result<&'a Array> {
    Ok(&borrow(handle)?.array)
}

pub(super) fn dims(shape: *const i64, ndim: usize) -> Result<Vec<usize>> {
    let shape = list(shape, ndim, "shape")?;
    match shape.iter().map(|d| usize::try_from(*d).ok()).collect() {
        Some(dims) => Ok(dims),
        None => bail!(InvalidArgument, "shape {shape:?} has a negative length"),
    }
}

/// A second handle on the same value, to be freed on its own. NULL when `array` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_retain(array: *const mlxterp_array) -> *mut mlxterp_array {
    borrow(array).map_or(std::ptr::null_mut(), |a| give(mlxterp_array::new(a.array.clone())))
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_free(array: *mut mlxterp_array) {
    drop(take(array));
}

/// Number of axes. Never waits. 0 when `array` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_ndim(array: *const mlxterp_array) -> usize {
    borrow(array).map_or(0, |a| a.array.ndim())
}

/// Length of each axis. Borrowed from the array. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_shape(array: *const mlxterp_array) -> *const i64 {
    borrow(array).map_or(std::ptr::null(), |a| a.shape().as_ptr())
}

/// Steps between neighbours along each axis, in elements. Borrowed from the array; NULL before mlxterp_array_eval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_strides(array: *const mlxterp_array) -> *const i64 {
    match borrow(array) {
        Ok(a) if a.array.is_evaluated() => {
            a.strides.get_or_init(|| a.array.strides().iter().map(|s| *s as i64).collect()).as_ptr()
        }
        _ => std::ptr::null(),
    }
}

/// Element type. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_dtype(array: *const mlxterp_array) -> u32 {
    borrow(array).map_or(0, |a| a.array.dtype() as u32)
}

/// Number of elements. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_size(array: *const mlxterp_array) -> usize {
    borrow(array).map_or(0, |a| a.array.size())
}

/// Bytes of all elements. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_byte_size(array: *const mlxterp_array) -> usize {
    borrow(array).map_or(0, |a| a.array.byte_size())
}

/// Whether the value has been computed. Never waits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_is_evaluated(array: *const mlxterp_array) -> bool {
    borrow(array).is_ok_and(|a| a.array.is_evaluated())
}

/// Computes the value, and waits for it: the one place where work happens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_eval(array: *const mlxterp_array) -> mlxterp_status {
    door(|| {
        let array = self::array(array)?;
        fits_in_memory(array)?;
        array.eval()
    })
}

/// Computes several values together; what they share is computed once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_eval_all(arrays: *const *const mlxterp_array, count: usize) -> mlxterp_status {
    door(|| {
        let all = list(arrays, count, "arrays")?.iter().map(|a| array(*a)).collect::<Result<Vec<_>>>()?;
        all.iter().try_for_each(|a| fits_in_memory(a))?;
        Array::eval_all(all)
    })
}

/// Address of the first element, in the buffer that MLX itself uses. Borrowed: lives as long as any handle on the value.
/// An error before mlxterp_array_eval. Elements may be strided: see mlxterp_array_strides.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_data(
    array: *const mlxterp_array,
    out_data: *mut *const c_void,
) -> mlxterp_status {
    door(|| {
        let out = output(out_data, std::ptr::null(), "out_data")?;
        *out = self::array(array)?.data()?;
        Ok(())
    })
}

/// The same value in row-major order without gaps: the only door that copies, and only when it must.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_contiguous(
    array: *const mlxterp_array,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let a = self::array(array)?;
        fits_in_memory(a)?;
        a.eval()?;
        if a.is_contiguous() { Ok(a.clone()) } else { tensor::contiguous(a) }
    })
}

/// A new array with a copy of `data`: row-major, as many elements as `shape` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_from_data(
    data: *const c_void,
    shape: *const i64,
    ndim: usize,
    dtype: u32,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let (dims, dtype) = (dims(shape, ndim)?, Dtype::from_number(dtype)?);
        let Some(bytes) = dims.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d)) else {
            bail!(InvalidArgument, "shape {dims:?} is too large");
        };
        Array::from_bytes(list(data.cast::<u8>(), bytes, "data")?, &dims, dtype)
    })
}

/// Gives back what belongs to `user`. May be called from any thread; NULL when nothing is to be given back.
pub type mlxterp_destroy_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// The caller's memory and how to give it back.
struct Foreign {
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
}

// SAFETY: the header says that `destroy` may be called from any thread.
unsafe impl Send for Foreign {}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller's function on the caller's pointer, once.
            unsafe { destroy(self.user) };
        }
    }
}

/// A new array over memory that the caller owns, shared where the backend can, else copied (see
/// mlxterp_array_is_shared). `destroy(user)` is called exactly once, from any thread, when the memory is no longer
/// needed: on failure too. Until then the memory must not change.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_adopt(
    data: *mut c_void,
    shape: *const i64,
    ndim: usize,
    dtype: u32,
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    let owner = Foreign { user, destroy };
    hand_out(out_array, || {
        let (dims, dtype) = (dims(shape, ndim)?, Dtype::from_number(dtype)?);
        if data.is_null() || !(data as usize).is_multiple_of(dtype.size()) {
            bail!(InvalidArgument, "data is NULL or not aligned for {dtype}");
        }
        // SAFETY: the header's promise about `data`.
        unsafe { Array::from_owner(data, &dims, dtype, Box::new(owner)) }
    })
}

/// Whether the array's buffer is the very memory at `data`: whether MLX could share it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_is_shared(array: *const mlxterp_array, data: *const c_void) -> bool {
    borrow(array).is_ok_and(|a| a.array.data().is_ok_and(|own| own == data))
}

/// The evaluated array as a `DLManagedTensorVersioned` (DLPack 1.x), read-only, without a copy. The consumer calls its
/// deleter; until then the buffer lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_to_dlpack(
    array: *const mlxterp_array,
    out_tensor: *mut *mut c_void,
) -> mlxterp_status {
    door(|| {
        let out = output(out_tensor, std::ptr::null_mut(), "out_tensor")?;
        *out = tensor::to_dlpack(self::array(array)?)?.cast();
        Ok(())
    })
}

/// A new array over a `DLManagedTensorVersioned` in host memory, shared where the backend can. Consumes the tensor:
/// its deleter is called by this library, on failure too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_from_dlpack(
    tensor: *mut c_void,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    door(|| {
        // The tensor is consumed even when there is nowhere to put the result, so the import comes first.
        let made = if tensor.is_null() {
            Err(err!(InvalidArgument, "the DLPack tensor is NULL"))
        } else {
            // SAFETY: the header's promise about the tensor.
            unsafe { tensor::from_dlpack(tensor.cast::<DLManagedTensorVersioned>()) }
        };
        let out = output(out_array, std::ptr::null_mut(), "out_array")?;
        *out = give(mlxterp_array::new(made?));
        Ok(())
    })
}

/// The array in words: shape, dtype, and its values when they are computed and few. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_array_describe(
    array: *const mlxterp_array,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(format!("{:?}", self::array(array)?)))
}
