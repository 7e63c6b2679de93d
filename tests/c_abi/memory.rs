//! Memory that crosses the border: whose it is, whether it was copied, and that it is given back once.

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlxterp::core::tensor::DLManagedTensorVersioned;
use mlxterp::ffi::mlxterp_status::*;
use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{floats, made, message, numbers, ok};

const F32: u32 = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;

unsafe extern "C" fn count(user: *mut c_void) {
    // SAFETY: a counter that outlives the test.
    unsafe { &*user.cast::<AtomicUsize>() }.fetch_add(1, Ordering::SeqCst);
}

fn user(counter: &AtomicUsize) -> *mut c_void {
    (&raw const *counter).cast_mut().cast()
}

/// MLX's CPU backend copies what it adopts; the others share.
fn shares() -> bool {
    let backend = unsafe { CStr::from_ptr(mlxterp_backend()) };
    backend != c"cpu"
}

fn data(array: *const mlxterp_array) -> *const c_void {
    let mut data = std::ptr::null();
    ok(unsafe { mlxterp_array_data(array, &mut data) });
    data
}

#[test]
fn adopted_memory_is_shared_where_mlx_can_and_given_back_once() {
    let _scene = Scene::new();
    let given_back = AtomicUsize::new(0);
    // A page of its own, since backends share only whole pages.
    let layout = std::alloc::Layout::from_size_align(16384, 16384).unwrap();
    let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<f32>();
    unsafe { std::slice::from_raw_parts_mut(memory, 6) }.copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let array = made(|out| unsafe {
        mlxterp_array_adopt(memory.cast(), [2, 3].as_ptr(), 2, F32, user(&given_back), Some(count), out)
    });
    ok(unsafe { mlxterp_array_eval(array) });
    assert_eq!(data(array) == memory.cast_const().cast(), shares());
    assert_eq!(unsafe { mlxterp_array_is_shared(array, memory.cast()) }, shares());
    assert_eq!(given_back.load(Ordering::SeqCst), usize::from(!shares()));
    let second = unsafe { mlxterp_array_retain(array) };
    assert_eq!(data(second), data(array));
    unsafe { mlxterp_array_free(array) };
    assert_eq!(numbers(second), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(given_back.load(Ordering::SeqCst), 1);
    unsafe { std::alloc::dealloc(memory.cast(), layout) };
}

#[test]
fn memory_that_cannot_be_adopted_is_given_back_once() {
    let _scene = Scene::new();
    let mut memory = [0f32; 4];
    let good: *mut c_void = memory.as_mut_ptr().cast();
    let odd = good.wrapping_byte_add(1);
    let ways: [(*mut c_void, [i64; 2], u32, bool); 6] = [
        (null_mut(), [1, 2], F32, true),
        (odd, [1, 2], F32, true),
        (good, [1, -2], F32, true),
        (good, [1, 2], 99, true),
        (good, [i64::MAX, i64::MAX], F32, true),
        (good, [1, 2], F32, false),
    ];
    for (data, shape, dtype, has_output) in ways {
        let given_back = AtomicUsize::new(0);
        let mut out = null_mut();
        let place: *mut *mut mlxterp_array = if has_output { &mut out } else { null_mut() };
        let status =
            unsafe { mlxterp_array_adopt(data, shape.as_ptr(), 2, dtype, user(&given_back), Some(count), place) };
        assert_eq!(status, MLXTERP_STATUS_INVALID_ARGUMENT, "{}", message());
        assert!(out.is_null());
        assert_eq!(given_back.load(Ordering::SeqCst), 1, "{shape:?}, dtype {dtype}, output {has_output}");
    }
}

fn export(array: *const mlxterp_array) -> *mut DLManagedTensorVersioned {
    made::<c_void>(|out| unsafe { mlxterp_array_to_dlpack(array, out) }).cast()
}

#[test]
fn an_exported_tensor_is_the_same_memory_and_keeps_it_alive() {
    let scene = Scene::new();
    let trace = scene.trace();
    let value = made(|out| unsafe { mlxterp_trace_read(trace, c"layers.0.output".as_ptr(), out) });
    let mut out = null_mut();
    assert_eq!(unsafe { mlxterp_array_to_dlpack(value, &mut out) }, MLXTERP_STATUS_NOT_EVALUATED);
    ok(unsafe { mlxterp_array_eval(value) });
    let address = data(value);
    let tensor = export(value);
    unsafe {
        let t = &(*tensor).dl_tensor;
        assert_eq!(t.data.cast_const(), address);
        assert_eq!(((*tensor).major, (*tensor).flags & 1, t.byte_offset), (1, 1, 0));
        assert_eq!(std::slice::from_raw_parts(t.shape, t.ndim as usize), [1, 4, 24]);
        assert_eq!((t.dtype.code, t.dtype.bits, t.dtype.lanes), (2, 32, 1));
        let expected = numbers(mlxterp_array_retain(value));
        mlxterp_array_free(value);
        mlxterp_trace_free(trace);
        assert_eq!(std::slice::from_raw_parts(t.data.cast::<f32>(), 4 * 24), expected);
        (*tensor).deleter.unwrap()(tensor);
    }
}

#[test]
fn an_imported_tensor_is_shared_where_mlx_can() {
    let _scene = Scene::new();
    let original = floats(&[1.0, 2.0, 3.0]);
    let address = data(original);
    let tensor = export(original);
    let copy = made(|out| unsafe { mlxterp_array_from_dlpack(tensor.cast(), out) });
    ok(unsafe { mlxterp_array_eval(copy) });
    assert_eq!(data(copy) == address, shares());
    assert_eq!(unsafe { mlxterp_array_is_shared(copy, address) }, shares());
    unsafe { mlxterp_array_free(original) };
    assert_eq!(numbers(copy), [1.0, 2.0, 3.0]);
}

static DELETED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn delete(tensor: *mut DLManagedTensorVersioned) {
    DELETED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the true deleter was kept in `manager_ctx`'s place by `watched`.
    unsafe {
        let kept = Box::from_raw((*tensor).manager_ctx.cast::<Kept>());
        (*tensor).manager_ctx = kept.context;
        kept.deleter.unwrap()(tensor);
    }
}

struct Kept {
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
}

/// A tensor that tells when it is deleted.
fn watched() -> *mut DLManagedTensorVersioned {
    let array = floats(&[1.0, 2.0, 3.0, 4.0]);
    let tensor = export(array);
    unsafe {
        mlxterp_array_free(array);
        let kept = Kept { context: (*tensor).manager_ctx, deleter: (*tensor).deleter };
        (*tensor).manager_ctx = Box::into_raw(Box::new(kept)).cast();
        (*tensor).deleter = Some(delete);
    }
    tensor
}

#[test]
fn a_tensor_that_cannot_be_imported_is_consumed_all_the_same() {
    let _scene = Scene::new();
    type Spoil = fn(&mut DLManagedTensorVersioned);
    let ways: [(&str, Spoil, mlxterp_status); 7] = [
        ("version", |t| t.major = 2, MLXTERP_STATUS_UNSUPPORTED),
        ("device", |t| t.dl_tensor.device.device_type = 2, MLXTERP_STATUS_UNSUPPORTED),
        ("strides", |t| unsafe { *t.dl_tensor.strides = 2 }, MLXTERP_STATUS_UNSUPPORTED),
        ("dtype", |t| t.dl_tensor.dtype.bits = 24, MLXTERP_STATUS_UNSUPPORTED),
        ("shape", |t| unsafe { *t.dl_tensor.shape = -4 }, MLXTERP_STATUS_INVALID_ARGUMENT),
        ("axes", |t| t.dl_tensor.ndim = -1, MLXTERP_STATUS_INVALID_ARGUMENT),
        ("output", |_| {}, MLXTERP_STATUS_INVALID_ARGUMENT),
    ];
    for (what, spoil, wanted) in ways {
        let before = DELETED.load(Ordering::SeqCst);
        let tensor = watched();
        unsafe { spoil(&mut *tensor) };
        let mut out = null_mut();
        let place: *mut *mut mlxterp_array = if what == "output" { null_mut() } else { &mut out };
        assert_eq!(unsafe { mlxterp_array_from_dlpack(tensor.cast(), place) }, wanted, "{what}: {}", message());
        assert!(out.is_null());
        assert_eq!(DELETED.load(Ordering::SeqCst), before + 1, "{what}");
    }
    // And once when all goes well.
    let before = DELETED.load(Ordering::SeqCst);
    let array = made(|out| unsafe { mlxterp_array_from_dlpack(watched().cast(), out) });
    assert_eq!(numbers(array), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(DELETED.load(Ordering::SeqCst), before + 1);
}

#[test]
fn only_contiguous_copies_and_only_when_it_must() {
    let _scene = Scene::new();
    let flat = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    unsafe {
        let table = made(|out| mlxterp_array_reshape(flat, [2, 3].as_ptr(), 2, out));
        let turned = made(|out| mlxterp_array_transpose(table, [1, 0].as_ptr(), 2, out));
        ok(mlxterp_array_eval(turned));
        assert_eq!(std::slice::from_raw_parts(mlxterp_array_strides(turned), 2), [1, 3]);
        assert_eq!(data(turned), data(flat));
        let dense = made(|out| mlxterp_array_contiguous(turned, out));
        ok(mlxterp_array_eval(dense));
        assert_ne!(data(dense), data(flat));
        let same = made(|out| mlxterp_array_contiguous(dense, out));
        assert_eq!(data(same), data(dense));
        assert_eq!(numbers(dense), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        for array in [flat, table, turned, same] {
            mlxterp_array_free(array);
        }
    }
}
