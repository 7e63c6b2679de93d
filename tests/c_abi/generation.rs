//! Generations as a C program runs them: steps, callbacks, options without meaning, and who cleans up.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use mlxterp::ffi::mlxterp_status::*;
use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{condition, floats, made, message, ok, tokens};
use crate::watch::{Watch, called, destroy};

fn options(max_tokens: usize) -> mlxterp_generate_options {
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_generate_options_init(options.as_mut_ptr()) });
    // SAFETY: filled in by the door above.
    let mut options: mlxterp_generate_options = unsafe { options.assume_init() };
    options.max_tokens = max_tokens;
    options.eos_ids = std::ptr::dangling();
    options
}

fn taken(text: *mut c_char) -> String {
    let owned = unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned();
    unsafe { mlxterp_string_free(text) };
    owned
}

fn drawn(generation: *const mlxterp_generation) -> Vec<u32> {
    let (mut count, mut ids) = (0, [0u32; 32]);
    ok(unsafe { mlxterp_generation_tokens(generation, 0, ids.as_mut_ptr(), ids.len(), &mut count) });
    ids[..count].to_vec()
}

/// The tokens of a plain run.
fn plain(scene: &Scene, n: usize) -> Vec<u32> {
    let batch = tokens(scene.model, &[3, 7, 11]);
    let generation = made(|out| unsafe { mlxterp_generation_start(scene.model, batch, &options(n), out) });
    ok(unsafe { mlxterp_generation_run(generation) });
    let ids = drawn(generation);
    unsafe { mlxterp_generation_free(generation) };
    unsafe { mlxterp_batch_free(batch) };
    ids
}

#[test]
fn steps_come_one_by_one_and_end_with_null() {
    let scene = Scene::new();
    let batch = tokens(scene.model, &[3, 7, 11]);
    let generation = made(|out| unsafe { mlxterp_generation_start(scene.model, batch, &options(3), out) });
    let (mut token, mut seen) = (0, Vec::new());
    assert_eq!(
        unsafe { mlxterp_generation_token(generation, 0, &mut token) },
        MLXTERP_STATUS_INVALID_ARGUMENT,
        "before the first step"
    );
    for step in 0..3 {
        assert!(!unsafe { mlxterp_generation_is_done(generation) });
        let trace = made(|out| unsafe { mlxterp_generation_next(generation, out) });
        assert_eq!(unsafe { mlxterp_trace_step(trace) }, step);
        ok(unsafe { mlxterp_generation_token(generation, 0, &mut token) });
        seen.push(token as u32);
        assert_eq!(unsafe { mlxterp_generation_token(generation, 1, &mut token) }, MLXTERP_STATUS_INVALID_ARGUMENT);
        unsafe { mlxterp_trace_free(trace) };
    }
    let json = taken(made(|out| unsafe { mlxterp_generation_drawn_json(generation, out) }));
    assert!(json.contains("\"finish\":\"length\""), "{json}");
    assert!(made(|out| unsafe { mlxterp_generation_next(generation, out) }).is_null());
    assert!(unsafe { mlxterp_generation_is_done(generation) });
    assert_eq!(drawn(generation), seen);
    unsafe { mlxterp_generation_free(generation) };
    unsafe { mlxterp_batch_free(batch) };
    assert_eq!(plain(&scene, 3), seen);
}

unsafe extern "C" fn count(user: *mut c_void, _: usize, trace: *const mlxterp_trace) -> i32 {
    unsafe { called(user) };
    i32::from(trace.is_null())
}

unsafe extern "C" fn fail_later(user: *mut c_void, step: usize, _: *const mlxterp_trace) -> i32 {
    unsafe { called(user) };
    if step == 2 { 5 } else { 0 }
}

#[test]
fn a_function_of_steps_is_called_in_each_and_forgotten_once() {
    let scene = Scene::new();
    let batch = tokens(scene.model, &[3, 7, 11]);
    let expected = plain(&scene, 4);
    let told = |call: mlxterp_step_fn, watch: &Watch| {
        let mut options = options(4);
        (options.on_step, options.on_step_user) = (call, watch.user());
        options.on_step_destroy = Some(destroy);
        options
    };
    let watch = Watch::default();
    let generation =
        made(|out| unsafe { mlxterp_generation_start(scene.model, batch, &told(Some(count), &watch), out) });
    ok(unsafe { mlxterp_generation_run(generation) });
    assert_eq!(watch.counts(), (4, 0));
    unsafe { mlxterp_generation_free(generation) };
    assert_eq!(watch.counts(), (4, 1));

    let watch = Watch::default();
    let generation =
        made(|out| unsafe { mlxterp_generation_start(scene.model, batch, &told(Some(fail_later), &watch), out) });
    assert_eq!(unsafe { mlxterp_generation_run(generation) }, MLXTERP_STATUS_CALLBACK);
    assert!(message().contains("step 2 failed with status 5"), "{}", message());
    assert_eq!(drawn(generation), expected[..2]);
    assert!(made(|out| unsafe { mlxterp_generation_next(generation, out) }).is_null());
    unsafe { mlxterp_generation_free(generation) };
    assert_eq!(watch.counts(), (3, 1));

    // Forgotten also where nothing was started, and where there is no function.
    for (call, model) in [(Some(count as unsafe extern "C" fn(_, _, _) -> _), null()), (None, scene.model.cast_const())]
    {
        let watch = Watch::default();
        let mut bad = told(call, &watch);
        bad.max_tokens = 0;
        let mut out = null_mut();
        let status = unsafe { mlxterp_generation_start(model, batch, &bad, &mut out) };
        assert_eq!(status, MLXTERP_STATUS_INVALID_ARGUMENT);
        assert_eq!(watch.counts(), (0, 1));
    }
    unsafe { mlxterp_batch_free(batch) };
    assert_eq!(plain(&scene, 4), expected);
}

#[test]
fn options_of_steering_are_read_and_checked() {
    let scene = Scene::new();
    let batch = tokens(scene.model, &[3, 7, 11]);
    let expected = plain(&scene, 4);
    let (vector, zero) = (floats(&[0.5; 24]), made(|out| unsafe { mlxterp_intervention_zero_out(out) }));
    let never = made(|out| unsafe {
        mlxterp_condition_new(c"layers.0.output".as_ptr(), vector, 0.0, f64::INFINITY, false, out)
    });
    let run = |when: u32, on: *const mlxterp_condition| {
        let (pattern, intervention) = (c"layers.1.output".as_ptr(), zero.cast_const());
        let mut options = options(4);
        (options.patterns, options.interventions) = (&pattern, &intervention);
        (options.whens, options.conditions, options.intervention_count) = (&when, &on, 1);
        let mut generation = null_mut();
        let status = unsafe { mlxterp_generation_start(scene.model, batch, &options, &mut generation) };
        if status != MLXTERP_STATUS_OK {
            return Err(message());
        }
        ok(unsafe { mlxterp_generation_run(generation) });
        let ids = drawn(generation);
        unsafe { mlxterp_generation_free(generation) };
        Ok(ids)
    };
    let [always, prefill, decode] = [0, 1, 2].map(|when| run(when, null()).unwrap());
    assert!(always != expected && prefill != expected && decode != expected);
    assert_eq!(decode[0], expected[0]);
    assert_eq!(always[..1], prefill[..1]);
    assert_eq!(run(0, never).unwrap(), expected);
    assert!(run(3, null()).unwrap_err().contains("options.whens[0] is 3"));
    assert!(run(0, zero.cast()).unwrap_err().contains("intervention handle was given where a condition is wanted"));
    // A direction of another width is an error of the first step.
    let narrow = floats(&[1.0]);
    let misfit = condition(narrow);
    let mut options = options(1);
    let (pattern, intervention) = (c"layers.1.output".as_ptr(), zero.cast_const());
    (options.patterns, options.interventions, options.intervention_count) = (&pattern, &intervention, 1);
    let on = misfit.cast_const();
    options.conditions = &on;
    let generation = made(|out| unsafe { mlxterp_generation_start(scene.model, batch, &options, out) });
    assert_eq!(unsafe { mlxterp_generation_run(generation) }, MLXTERP_STATUS_SHAPE);
    unsafe {
        mlxterp_generation_free(generation);
        mlxterp_condition_free(misfit);
        mlxterp_condition_free(never);
        mlxterp_array_free(narrow);
        mlxterp_array_free(vector);
        mlxterp_intervention_free(zero);
        mlxterp_batch_free(batch);
    }
}

#[test]
fn conversations_become_prompts() {
    let scene = Scene::new();
    let one = CString::new(r##"[{"role": "!", "content": "#"}]"##).unwrap();
    let two = CString::new(r##"[[{"role": "!", "content": "#"}], [{"role": "!", "content": "#!"}]]"##).unwrap();
    let text =
        taken(made(|out| unsafe { mlxterp_model_apply_chat_template(scene.model, one.as_ptr(), false, null(), out) }));
    assert_eq!(text, "<|im_start|>!\n#<|im_end|>\n");
    let bare = c"{\"chat_template\": \"{{ messages[0].content }}\"}".as_ptr();
    for (json, rows) in [(&one, 1), (&two, 2)] {
        let batch = made(|out| unsafe { mlxterp_batch_from_chats(scene.model, json.as_ptr(), bare, out) });
        assert_eq!(unsafe { mlxterp_batch_count(batch) }, rows);
        unsafe { mlxterp_batch_free(batch) };
    }
    let mut out = null_mut();
    for (messages, extra, says) in [
        (c"{", c"{}", "messages_json is not JSON"),
        (c"[]", c"{}", "messages is empty"),
        (c"[{\"role\": \"user\"}]", c"[1]", "extra_json is [1]"),
    ] {
        let status = unsafe { mlxterp_batch_from_chats(scene.model, messages.as_ptr(), extra.as_ptr(), &mut out) };
        assert_eq!(status, MLXTERP_STATUS_INVALID_ARGUMENT);
        assert!(message().contains(says), "{}", message());
    }
}
