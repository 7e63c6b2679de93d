//! Any handle on any thread, with the same results.

use std::ffi::CStr;
use std::ptr::null_mut;
use std::thread;

use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{made, message, numbers, ok, tokens};

const THREADS: usize = 4;

/// What one thread does: prompts of its own, a change of its own, several values, noise included.
fn work(model: *const mlxterp_model, which: usize) -> Vec<u32> {
    let mut bits = Vec::new();
    for round in 0..4 {
        let ids: Vec<u32> = (0..5 + which).map(|i| ((i * 7 + which * 11 + round) % 60 + 3) as u32).collect();
        let batch = tokens(model, &ids);
        unsafe {
            let trace = made(|out| mlxterp_trace_start(model, batch, std::ptr::null(), out));
            let noise = made(|out| mlxterp_intervention_noise(0.1, which as u64, out));
            ok(mlxterp_trace_intervene(trace, c"layers.*.mlp".as_ptr(), noise));
            for site in [c"layers.0.attn.output", c"layers.1.attn.pattern", c"output"] {
                let value = made(|out| mlxterp_trace_read(trace, site.as_ptr(), out));
                bits.extend(numbers(value).into_iter().map(f32::to_bits));
            }
            mlxterp_intervention_free(noise);
            mlxterp_trace_free(trace);
            mlxterp_batch_free(batch);
        }
    }
    bits
}

#[test]
fn threads_that_trace_one_model_get_what_they_would_get_alone() {
    let scene = Scene::new();
    let alone: Vec<_> = (0..THREADS).map(|which| work(scene.model, which)).collect();
    let model = scene.model as usize;
    let together: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|which| scope.spawn(move || work(model as *const _, which))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(alone == together, "results differ between threads and one after another");
    assert!(alone[0] != alone[1]);
}

#[test]
fn a_trace_may_be_continued_on_another_thread() {
    let scene = Scene::new();
    let trace = scene.trace();
    let early = made(|out| unsafe { mlxterp_trace_read(trace, c"layers.0.output".as_ptr(), out) });
    let (trace_address, early_address) = (trace as usize, early as usize);
    let there = thread::spawn(move || {
        let early = numbers(early_address as *mut mlxterp_array);
        let trace = trace_address as *mut mlxterp_trace;
        let late = numbers(made(|out| unsafe { mlxterp_trace_read(trace, c"output".as_ptr(), out) }));
        unsafe { mlxterp_trace_free(trace) };
        (early, late)
    });
    let there = there.join().unwrap();
    let trace = scene.trace();
    let read = |site: &CStr| numbers(made(|out| unsafe { mlxterp_trace_read(trace, site.as_ptr(), out) }));
    let here = (read(c"layers.0.output"), read(c"output"));
    unsafe { mlxterp_trace_free(trace) };
    assert!(there == here);
}

#[test]
fn each_thread_has_its_own_message() {
    let scene = Scene::new();
    let trace = scene.trace();
    let mut out = null_mut();
    unsafe { mlxterp_trace_read(trace, c"layers.77.mlp".as_ptr(), &mut out) };
    let address = trace as usize;
    let theirs = thread::spawn(move || {
        assert_eq!(message(), "");
        let mut out = null_mut();
        unsafe { mlxterp_trace_read(address as *const mlxterp_trace, c"layers.88.mlp".as_ptr(), &mut out) };
        message()
    });
    assert!(theirs.join().unwrap().contains("layers.88.mlp"));
    assert!(message().contains("layers.77.mlp"));
    unsafe { mlxterp_trace_free(trace) };
}
