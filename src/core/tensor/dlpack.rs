//! Zero-copy exchange with other array libraries: DLPack 1.x (<https://dmlc.github.io/dlpack/latest/c_api.html>).

use std::ffi::c_void;

use super::engine::uses_cpu;
use super::{Array, Dtype};
use crate::error::{Result, bail};

const READ_ONLY: u64 = 1;
const CPU: i32 = 1;
/// MLX's own convention on Metal: the data pointer is the unified one when the device is the CPU.
const CUDA_MANAGED: i32 = 13;

/// `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct DLDevice {
    pub device_type: i32,
    pub device_id: i32,
}

/// `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DLDataType {
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
}

/// `DLTensor`.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)]
pub struct DLTensor {
    pub data: *mut c_void,
    pub device: DLDevice,
    pub ndim: i32,
    pub dtype: DLDataType,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
#[derive(Debug)]
#[allow(missing_docs)]
pub struct DLManagedTensorVersioned {
    pub major: u32,
    pub minor: u32,
    pub manager_ctx: *mut c_void,
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    pub flags: u64,
    pub dl_tensor: DLTensor,
}

/// What an exported tensor keeps alive.
struct Exported {
    _array: Array,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// Codes of `DLDataTypeCode`.
fn dl_dtype(dtype: Dtype) -> DLDataType {
    let code = match dtype {
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => 0,
        Dtype::Uint8 | Dtype::Uint16 | Dtype::Uint32 | Dtype::Uint64 => 1,
        Dtype::Float16 | Dtype::Float32 | Dtype::Float64 => 2,
        Dtype::Bfloat16 => 4,
        Dtype::Complex64 => 5,
        Dtype::Bool => 6,
    };
    DLDataType { code, bits: (dtype.size() * 8) as u8, lanes: 1 }
}

fn from_dl_dtype(d: DLDataType) -> Result<Dtype> {
    let known = (0..).map_while(|n| Dtype::from_number(n).ok()).find(|dtype| dl_dtype(*dtype) == d);
    match known {
        Some(dtype) => Ok(dtype),
        None => bail!(Unsupported, "DLPack type code {} with {} bits has no MLX dtype", d.code, d.bits),
    }
}

/// Hands the evaluated array's own buffer out, read-only. The consumer calls `deleter`; until then the buffer lives.
pub fn to_dlpack(array: &Array) -> Result<*mut DLManagedTensorVersioned> {
    let data = array.data()?.cast_mut();
    let mut exported = Box::new(Exported {
        shape: array.shape().iter().map(|d| i64::from(*d)).collect(),
        strides: array.strides().iter().map(|s| *s as i64).collect(),
        _array: array.clone(),
    });
    let device_type = if uses_cpu() || super::backend() == "metal" { CPU } else { CUDA_MANAGED };
    let dl_tensor = DLTensor {
        data,
        device: DLDevice { device_type, device_id: 0 },
        ndim: array.ndim() as i32,
        dtype: dl_dtype(array.dtype()),
        shape: exported.shape.as_mut_ptr(),
        strides: exported.strides.as_mut_ptr(),
        byte_offset: 0,
    };
    Ok(Box::into_raw(Box::new(DLManagedTensorVersioned {
        major: 1,
        minor: 0,
        manager_ctx: Box::into_raw(exported).cast(),
        deleter: Some(delete),
        flags: READ_ONLY,
        dl_tensor,
    })))
}

unsafe extern "C" fn delete(tensor: *mut DLManagedTensorVersioned) {
    if tensor.is_null() {
        return;
    }
    // SAFETY: both boxes were made by `to_dlpack`; the protocol has the consumer call this once.
    unsafe {
        let tensor = Box::from_raw(tensor);
        drop(Box::from_raw(tensor.manager_ctx.cast::<Exported>()));
    }
}

/// A foreign tensor, given back to its maker when dropped.
struct Imported(*mut DLManagedTensorVersioned);

// SAFETY: DLPack deleters may be called from any thread.
unsafe impl Send for Imported {}

impl Drop for Imported {
    fn drop(&mut self) {
        // SAFETY: taken over by `from_dlpack`, deleted once.
        unsafe {
            if let Some(deleter) = (*self.0).deleter {
                deleter(self.0);
            }
        }
    }
}

/// Takes over a tensor made by another library, sharing its buffer where the backend can. Strided tensors are refused:
/// their maker can make a contiguous copy better than we can guess.
///
/// # Safety
/// `tensor` must be a valid DLPack 1.x tensor in host memory; its deleter is called by this library, on every path.
pub unsafe fn from_dlpack(tensor: *mut DLManagedTensorVersioned) -> Result<Array> {
    let owner = Imported(tensor);
    // SAFETY: the caller's promise.
    let t = unsafe { &*tensor };
    if t.major != 1 {
        bail!(Unsupported, "DLPack {}.{}: this library reads version 1", t.major, t.minor);
    }
    let d = &t.dl_tensor;
    if ![CPU, CUDA_MANAGED].contains(&d.device.device_type) {
        bail!(Unsupported, "the tensor lies on DLPack device {}: move it to the CPU first", d.device.device_type);
    }
    let ndim = usize::try_from(d.ndim).unwrap_or(usize::MAX);
    if ndim > 64 || (ndim > 0 && d.shape.is_null()) {
        bail!(InvalidArgument, "a DLPack tensor with {} axes is not valid", d.ndim);
    }
    // SAFETY: `shape` has `ndim` entries, `strides` too when present.
    let (shape, strides) = unsafe {
        let strides = (ndim > 0 && !d.strides.is_null()).then(|| std::slice::from_raw_parts(d.strides, ndim));
        (if ndim == 0 { &[] } else { std::slice::from_raw_parts(d.shape, ndim) }, strides)
    };
    let mut dense = 1;
    for (i, length) in shape.iter().enumerate().rev() {
        if *length < 0 {
            bail!(InvalidArgument, "a DLPack tensor of shape {shape:?} is not valid");
        }
        if strides.is_some_and(|s| *length > 1 && s[i] != dense) {
            bail!(Unsupported, "a DLPack tensor with strides {strides:?} is not row-major: make it contiguous first");
        }
        dense = dense.saturating_mul(*length);
    }
    let dims: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    let data = d.data.cast::<u8>().wrapping_add(d.byte_offset as usize).cast();
    let dtype = from_dl_dtype(d.dtype)?;
    // SAFETY: the tensor's own promise about its buffer; `owner` keeps it alive.
    unsafe { Array::from_owner(data, &dims, dtype, Box::new(owner)) }
}
