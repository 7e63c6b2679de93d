//! Hooks: what they may do, what stops, and who cleans up.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;

use mlxterp::ffi::mlxterp_status::*;
use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{floats, made, message, numbers, ok};
use crate::watch::{Watch, called, destroy};

unsafe extern "C" fn double(user: *mut c_void, event: *const mlxterp_event, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        let event = &*event;
        assert_eq!(event.struct_size, size_of::<mlxterp_event>());
        assert_eq!((event.step, event.rows, *event.lengths), (0, 1, 4));
        assert!(CStr::from_ptr(event.site).to_str().unwrap().contains("layers.0"));
        mlxterp_array_binary(mlxterp_binary::MLXTERP_BINARY_ADD as u32, event.value, event.value, out) as i32
    }
}

unsafe extern "C" fn look(user: *mut c_void, _: *const mlxterp_event, _: *mut *mut mlxterp_array) -> i32 {
    unsafe { called(user) };
    0
}

unsafe extern "C" fn fail(user: *mut c_void, event: *const mlxterp_event, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        // A result beside a failure is freed by the library.
        *out = mlxterp_array_retain((*event).value);
    }
    7
}

unsafe extern "C" fn lie(user: *mut c_void, event: *const mlxterp_event, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        // Not a handle: the value's elements, or any other address.
        *out = event.cast_mut().cast();
    }
    0
}

unsafe extern "C" fn misfit(user: *mut c_void, _: *const mlxterp_event, out: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        *out = floats(&[1.0; 23]);
    }
    0
}

unsafe extern "C" fn reenter(user: *mut c_void, _: *const mlxterp_event, _: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        let watch = called(user);
        let mut out = null_mut();
        let status = mlxterp_trace_read(watch.trace.load(Ordering::SeqCst), c"output".as_ptr(), &mut out);
        assert!(out.is_null());
        watch.told.store(status as usize, Ordering::SeqCst);
    }
    0
}

unsafe extern "C" fn evaluate(user: *mut c_void, event: *const mlxterp_event, _: *mut *mut mlxterp_array) -> i32 {
    unsafe {
        called(user);
        mlxterp_array_eval((*event).value) as i32
    }
}

fn custom(hook: mlxterp_hook_fn, watch: &Watch) -> *mut mlxterp_intervention {
    made(|out| unsafe { mlxterp_intervention_custom(c"watch".as_ptr(), hook, watch.user(), Some(destroy), out) })
}

/// The output of a trace with a hook at a site, and the status of asking for it.
fn output(trace: *mut mlxterp_trace, hook: mlxterp_hook_fn, watch: &Watch) -> (mlxterp_status, Vec<f32>) {
    unsafe {
        let intervention = custom(hook, watch);
        let mut out = null_mut();
        let mut status = mlxterp_trace_intervene(trace, c"layers.0.attn.output".as_ptr(), intervention);
        mlxterp_intervention_free(intervention);
        if status == MLXTERP_STATUS_OK {
            status = mlxterp_trace_read(trace, c"output".as_ptr(), &mut out);
        }
        (status, if out.is_null() { Vec::new() } else { numbers(out) })
    }
}

fn plain(scene: &Scene) -> Vec<f32> {
    let trace = scene.trace();
    let values = numbers(made(|out| unsafe { mlxterp_trace_read(trace, c"output".as_ptr(), out) }));
    unsafe { mlxterp_trace_free(trace) };
    values
}

#[test]
fn a_hook_changes_the_value_and_is_destroyed_once() {
    let scene = Scene::new();
    let watch = Watch::default();
    let trace = scene.trace();
    let (status, doubled) = output(trace, Some(double), &watch);
    ok(status);
    unsafe { mlxterp_trace_free(trace) };
    assert_eq!(watch.counts(), (1, 1));

    let twice = made(|out| unsafe { mlxterp_intervention_scale(2.0, out) });
    let trace = scene.trace();
    ok(unsafe { mlxterp_trace_intervene(trace, c"layers.0.attn.output".as_ptr(), twice) });
    let scaled = numbers(made(|out| unsafe { mlxterp_trace_read(trace, c"output".as_ptr(), out) }));
    unsafe {
        mlxterp_trace_free(trace);
        mlxterp_intervention_free(twice);
    }
    assert_eq!(doubled, scaled);
    assert_ne!(doubled, plain(&scene));
}

#[test]
fn a_hook_that_only_looks_changes_nothing() {
    let scene = Scene::new();
    for hook in [look as unsafe extern "C" fn(_, _, _) -> _, evaluate] {
        let watch = Watch::default();
        let trace = scene.trace();
        let (status, values) = output(trace, Some(hook), &watch);
        ok(status);
        unsafe { mlxterp_trace_free(trace) };
        assert_eq!(watch.counts(), (1, 1));
        assert_eq!(values, plain(&scene));
    }
}

#[test]
fn a_hook_that_fails_stops_the_call_with_callback() {
    let scene = Scene::new();
    for (hook, words) in
        [(fail as unsafe extern "C" fn(_, _, _) -> _, "failed with status 7"), (lie, "no array handle")]
    {
        let watch = Watch::default();
        let trace = scene.trace();
        let (status, _) = output(trace, Some(hook), &watch);
        assert_eq!(status, MLXTERP_STATUS_CALLBACK, "{}", message());
        assert!(message().contains("layers.0") && message().contains(words), "{}", message());
        // The trace is as if the hook had not been asked for.
        let after = numbers(made(|out| unsafe { mlxterp_trace_read(trace, c"output".as_ptr(), out) }));
        assert_eq!(after, plain(&scene));
        unsafe { mlxterp_trace_free(trace) };
        assert_eq!(watch.counts(), (1, 1));
    }
}

#[test]
fn a_hook_whose_value_does_not_fit_is_a_shape_error() {
    let scene = Scene::new();
    let watch = Watch::default();
    let trace = scene.trace();
    let (status, _) = output(trace, Some(misfit), &watch);
    assert_eq!(status, MLXTERP_STATUS_SHAPE, "{}", message());
    assert!(message().contains("23") && message().contains("24"), "{}", message());
    unsafe { mlxterp_trace_free(trace) };
    assert_eq!(watch.counts(), (1, 1));
}

#[test]
fn a_hook_that_uses_its_own_run_is_told_busy() {
    let scene = Scene::new();
    let watch = Watch::default();
    let trace = scene.trace();
    watch.trace.store(trace, Ordering::SeqCst);
    let (status, values) = output(trace, Some(reenter), &watch);
    ok(status);
    assert_eq!(watch.told.load(Ordering::SeqCst), MLXTERP_STATUS_BUSY as usize);
    assert_eq!(values, plain(&scene));
    unsafe { mlxterp_trace_free(trace) };
    assert_eq!(watch.counts(), (1, 1));
}

#[test]
fn a_hook_that_never_runs_is_destroyed_once() {
    let scene = Scene::new();
    let watch = Watch::default();
    let intervention = custom(Some(look), &watch);
    let trace = scene.trace();
    unsafe {
        let status = mlxterp_trace_intervene(trace, c"layers.9.mlp".as_ptr(), intervention);
        assert_eq!(status, MLXTERP_STATUS_UNKNOWN_SITE);
        // The handle still holds it.
        assert_eq!(watch.counts(), (0, 0));
        mlxterp_intervention_free(intervention);
        mlxterp_trace_free(trace);
    }
    assert_eq!(watch.counts(), (0, 1));
}

#[test]
fn a_hook_is_destroyed_once_when_it_cannot_be_registered() {
    let _scene = Scene::new();
    let register = |name: *const c_char, hook: mlxterp_hook_fn, watch: &Watch, has_output: bool| unsafe {
        let mut out = null_mut();
        let place: *mut *mut mlxterp_intervention = if has_output { &mut out } else { null_mut() };
        let status = mlxterp_intervention_custom(name, hook, watch.user(), Some(destroy), place);
        assert_eq!(status, MLXTERP_STATUS_INVALID_ARGUMENT);
        assert!(out.is_null());
    };
    let good = c"name".as_ptr();
    let bad = c"\xff".as_ptr();
    let ways: [(*const c_char, mlxterp_hook_fn, bool); 4] =
        [(good, None, true), (null(), Some(look), true), (bad, Some(look), true), (good, Some(look), false)];
    for (name, hook, has_output) in ways {
        let watch = Watch::default();
        register(name, hook, &watch, has_output);
        assert_eq!(watch.counts(), (0, 1));
    }
}

#[test]
fn a_shared_hook_lives_as_long_as_its_last_use() {
    let scene = Scene::new();
    let watch = Watch::default();
    let hook = custom(Some(look), &watch);
    unsafe {
        let both = made(|out| mlxterp_intervention_compose([hook.cast_const(); 2].as_ptr(), 2, out));
        let part = made(|out| mlxterp_intervention_select(both, c"positions".as_ptr(), &-1, 1, out));
        assert!(mlxterp_intervention_equal(hook, hook) && !mlxterp_intervention_equal(hook, both));
        let mut text = null_mut();
        assert_ne!(mlxterp_intervention_to_json(hook, &mut text), MLXTERP_STATUS_OK);
        let trace = scene.trace();
        ok(mlxterp_trace_intervene(trace, c"layers.0.mlp".as_ptr(), part));
        let fork = made(|out| mlxterp_trace_fork(trace, out));
        for intervention in [hook, both, part] {
            mlxterp_intervention_free(intervention);
        }
        mlxterp_trace_free(trace);
        assert_eq!(watch.counts().1, 0, "a fork still needs the hook");
        mlxterp_trace_free(fork);
    }
    assert_eq!(watch.counts().1, 1);
}

unsafe extern "C" fn cancel(user: *mut c_void, stage: *const c_char, done: u64, total: u64) -> i32 {
    unsafe {
        called(user);
        assert_eq!(CStr::from_ptr(stage), c"load");
    }
    assert!(done <= total);
    1
}

#[test]
fn loading_can_be_cancelled() {
    let _scene = Scene::new();
    let watch = Watch::default();
    let path = crate::case::model_path();
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_model_options_init(options.as_mut_ptr()) });
    let mut options = unsafe { options.assume_init() };
    options.progress = Some(cancel);
    options.progress_user = watch.user();
    let mut out = null_mut();
    let status = unsafe { mlxterp_model_load(path.as_ptr(), &options, &mut out) };
    assert_eq!(status, MLXTERP_STATUS_CALLBACK, "{}", message());
    assert!(out.is_null());
    assert_eq!(watch.counts().0, 1);
}
