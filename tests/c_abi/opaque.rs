//! Own models and opaque modules from C: sharing, callbacks, and who cleans up.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use mlxterp::ffi::mlxterp_status::*;
use mlxterp::ffi::*;

use crate::ALONE;
use crate::case::{floats, made, message, numbers, ok};
use crate::watch::{Watch, called, destroy};

const ROUTED: &CStr =
    c"arch routed\n\nMain(x):\n  router: opaque(outputs=2)\n  w: param\n  a, b = router(x, x * w)\n  return a - b\n";

/// Twice the first, the second as it is.
unsafe extern "C" fn route(user: *mut c_void, call: *const mlxterp_opaque_call, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        let call = &*call;
        assert_eq!(call.struct_size, size_of::<mlxterp_opaque_call>());
        assert_eq!((call.input_count, call.output_count, call.rows, *call.lengths), (2, 2, 2, 1));
        assert_eq!(CStr::from_ptr(call.path), c"router");
        let inputs = std::slice::from_raw_parts(call.inputs, 2);
        *out.add(1) = mlxterp_array_retain(inputs[1]);
        mlxterp_array_binary(mlxterp_binary::MLXTERP_BINARY_ADD as u32, inputs[0], inputs[0], out) as i32
    }
}

unsafe extern "C" fn half(user: *mut c_void, call: *const mlxterp_opaque_call, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        *out = mlxterp_array_retain(*(*call).inputs);
    }
    0
}

unsafe extern "C" fn fail(user: *mut c_void, call: *const mlxterp_opaque_call, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        // A result beside a failure is freed by the library.
        *out.add(1) = mlxterp_array_retain(*(*call).inputs);
    }
    7
}

unsafe extern "C" fn lie(user: *mut c_void, call: *const mlxterp_opaque_call, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        *out = mlxterp_array_retain(*(*call).inputs);
        *out.add(1) = call.cast_mut().cast();
    }
    0
}

unsafe extern "C" fn reenter(user: *mut c_void, call: *const mlxterp_opaque_call, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        let watch = called(user);
        let model = watch.model.load(Ordering::SeqCst);
        let (mut batch, mut logits) = (null_mut(), null_mut());
        ok(mlxterp_batch_from_arrays(model, (*call).inputs, 1, &mut batch));
        let status = mlxterp_model_forward(model, batch, &mut logits);
        assert!(logits.is_null());
        watch.told.store(status as usize, Ordering::SeqCst);
        mlxterp_batch_free(batch);
        for at in 0..2 {
            *out.add(at) = mlxterp_array_retain(*(*call).inputs);
        }
    }
    0
}

/// Has the process to itself, and sees to it that no handle is left.
struct Alone(usize, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Alone {
    fn new() -> Self {
        let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Alone(mlxterp_live_handles(), guard)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(mlxterp_live_handles(), self.0, "handles were left behind");
        }
    }
}

/// Loads the routed model with functions under these names.
fn load(given: &[(&CStr, *const mlxterp_opaque)], out: &mut *mut mlxterp_model) -> mlxterp_status {
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_model_options_init_sized(options.as_mut_ptr(), size_of::<mlxterp_model_options>()) });
    // SAFETY: filled in by the door above.
    let mut options: mlxterp_model_options = unsafe { options.assume_init() };
    let names: Vec<_> = given.iter().map(|(name, _)| name.as_ptr()).collect();
    let functions: Vec<_> = given.iter().map(|(_, function)| *function).collect();
    (options.opaque_names, options.opaques, options.opaque_count) = (names.as_ptr(), functions.as_ptr(), given.len());
    let array = floats(&[3.0, 5.0]);
    let (weights, arrays) = ([c"w".as_ptr()], [array.cast_const()]);
    let (text, config) = (ROUTED.as_ptr(), c"{}".as_ptr());
    let status =
        unsafe { mlxterp_model_from_weights(text, config, weights.as_ptr(), arrays.as_ptr(), 1, &options, out) };
    unsafe { mlxterp_array_free(array) };
    status
}

fn model(function: mlxterp_opaque_fn, watch: &Watch) -> *mut mlxterp_model {
    let opaque = made(|out| unsafe { mlxterp_opaque_new(function, watch.user(), Some(destroy), out) });
    let model = made(|out| load(&[(c"router", opaque)], unsafe { &mut *out }));
    // The model has its own share.
    unsafe { mlxterp_opaque_free(opaque) };
    model
}

fn batch(model: *const mlxterp_model) -> *mut mlxterp_batch {
    let data = [1f32, 2.0, -3.0, 4.0];
    let dtype = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;
    let x = made(|out| unsafe { mlxterp_array_from_data(data.as_ptr().cast(), [2, 2].as_ptr(), 2, dtype, out) });
    let batch = made(|out| unsafe { mlxterp_batch_from_arrays(model, [x.cast_const()].as_ptr(), 1, out) });
    unsafe { mlxterp_array_free(x) };
    batch
}

/// The output of a forward, and the status of asking for it.
fn forward(model: *const mlxterp_model) -> (mlxterp_status, Vec<f32>) {
    let (batch, mut out) = (batch(model), null_mut());
    let status = unsafe { mlxterp_model_forward(model, batch, &mut out) };
    unsafe { mlxterp_batch_free(batch) };
    (status, if out.is_null() { Vec::new() } else { numbers(out) })
}

#[test]
fn a_function_computes_a_module() {
    let (_alone, watch) = (Alone::new(), Watch::default());
    let model = model(Some(route), &watch);
    assert_eq!(watch.counts(), (0, 0));
    // 2 x - w x
    assert_eq!(forward(model), (MLXTERP_STATUS_OK, vec![-1.0, -6.0, 3.0, -12.0]));
    unsafe {
        let batch = batch(model);
        let trace = made(|out| mlxterp_trace_start(model, batch, null(), out));
        let ids = made(|out| mlxterp_trace_batch(trace, out));
        let mut none = null_mut();
        assert_eq!(mlxterp_batch_ids(ids, &mut none), MLXTERP_STATUS_INVALID_ARGUMENT);
        assert!(message().contains("holds arrays"), "{}", message());
        let zero = floats(&[0.0]);
        ok(mlxterp_trace_write(trace, c"router.output.1".as_ptr(), zero));
        let out = made(|out| mlxterp_trace_read(trace, c"output".as_ptr(), out));
        assert_eq!(numbers(out), [2.0, 4.0, -6.0, 8.0]);
        mlxterp_array_free(zero);
        mlxterp_batch_free(ids);
        mlxterp_batch_free(batch);
        // The trace keeps the model, and the model the function.
        mlxterp_model_free(model);
        assert_eq!(watch.counts(), (2, 0));
        mlxterp_trace_free(trace);
    }
    assert_eq!(watch.counts(), (2, 1));
}

#[test]
fn what_a_function_does_wrong_stops_the_call_and_nothing_else() {
    let cases: [(mlxterp_opaque_fn, &str); 3] = [
        (Some(half), "left output 1 of 2 empty"),
        (Some(fail), "failed with status 7"),
        (Some(lie), "no array handle"),
    ];
    for (function, words) in cases {
        let (_alone, watch) = (Alone::new(), Watch::default());
        let model = model(function, &watch);
        for calls in 1..=2 {
            assert_eq!(forward(model), (MLXTERP_STATUS_CALLBACK, Vec::new()));
            assert!(message().contains(words) && message().contains("'router'"), "{}", message());
            assert_eq!(watch.counts(), (calls, 0));
        }
        unsafe { mlxterp_model_free(model) };
        assert_eq!(watch.counts(), (2, 1));
    }
}

#[test]
fn a_function_cannot_run_the_model_that_called_it() {
    let (_alone, watch) = (Alone::new(), Watch::default());
    let model = model(Some(reenter), &watch);
    watch.model.store(model, Ordering::SeqCst);
    assert_eq!(forward(model).0, MLXTERP_STATUS_OK);
    assert_eq!(watch.told.load(Ordering::SeqCst), MLXTERP_STATUS_BUSY as usize);
    unsafe { mlxterp_model_free(model) };
    assert_eq!(watch.counts(), (1, 1));
}

#[test]
fn destroy_runs_once_on_every_way_out() {
    let (_alone, watch) = (Alone::new(), Watch::default());
    let status = unsafe { mlxterp_opaque_new(None, watch.user(), Some(destroy), &mut null_mut()) };
    assert_eq!((status, watch.counts()), (MLXTERP_STATUS_INVALID_ARGUMENT, (0, 1)));
    let status = unsafe { mlxterp_opaque_new(Some(route), watch.user(), Some(destroy), null_mut()) };
    assert_eq!((status, watch.counts()), (MLXTERP_STATUS_INVALID_ARGUMENT, (0, 2)));

    let opaque = made(|out| unsafe { mlxterp_opaque_new(Some(route), watch.user(), Some(destroy), out) });
    let mut none = null_mut();
    assert_eq!(load(&[], &mut none), MLXTERP_STATUS_NOT_FOUND);
    assert!(message().contains("'router'") && message().contains("has no function"), "{}", message());
    assert_eq!(load(&[(c"roter", opaque)], &mut none), MLXTERP_STATUS_NOT_FOUND);
    assert_eq!(load(&[(c"router", opaque), (c"other", opaque)], &mut none), MLXTERP_STATUS_NOT_FOUND);
    assert!(message().contains("'other'"), "{}", message());
    assert_eq!(load(&[(c"router", null())], &mut none), MLXTERP_STATUS_INVALID_ARGUMENT);
    assert!(none.is_null());
    assert_eq!(watch.counts(), (0, 2));
    unsafe { mlxterp_opaque_free(opaque) };
    assert_eq!(watch.counts(), (0, 3));
}

#[test]
fn weights_are_shared_with_the_caller() {
    static mut WEIGHT: [f32; 2] = [3.0, 5.0];
    let _alone = Alone::new();
    let dtype = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;
    unsafe {
        let memory = (&raw mut WEIGHT).cast();
        let w = made(|out| mlxterp_array_adopt(memory, &2, 1, dtype, null_mut(), None, out));
        let (names, arrays) = ([c"w".as_ptr()], [w.cast_const()]);
        let text = c"arch scaling\n\nMain(x):\n  w: param\n  y = x * w\n  return y\n".as_ptr();
        let model = made(|out| {
            mlxterp_model_from_weights(text, c"{}".as_ptr(), names.as_ptr(), arrays.as_ptr(), 1, null(), out)
        });
        // On the CPU backend adopting copies; from there on the buffer is the same.
        ok(mlxterp_array_eval(w));
        let mut address = null();
        ok(mlxterp_array_data(w, &mut address));
        let batch = batch(model);
        let trace = made(|out| mlxterp_trace_start(model, batch, null(), out));
        let seen = made(|out| mlxterp_trace_read(trace, c"w".as_ptr(), out));
        ok(mlxterp_array_eval(seen));
        assert!(mlxterp_array_is_shared(seen, address));
        assert_eq!(numbers(seen), [3.0, 5.0]);
        mlxterp_array_free(w);
        mlxterp_trace_free(trace);
        mlxterp_batch_free(batch);
        mlxterp_model_free(model);
    }
}
