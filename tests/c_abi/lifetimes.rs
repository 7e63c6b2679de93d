//! Handles keep what they need alive, and end once.

use std::ptr::{null, null_mut};

use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{floats, made, model_path, numbers, ok, tokens};

#[test]
fn a_trace_outlives_its_model_and_its_batch() {
    let scene = Scene::new();
    let path = model_path();
    unsafe {
        let model = made(|out| mlxterp_model_load(path.as_ptr(), null(), out));
        let batch = tokens(model, &[3, 7, 11, 20]);
        let trace = made(|out| mlxterp_trace_start(model, batch, null(), out));
        mlxterp_model_free(model);
        mlxterp_batch_free(batch);
        let own = made(|out| mlxterp_trace_batch(trace, out));
        assert_eq!((mlxterp_batch_count(own), mlxterp_batch_width(own), *mlxterp_batch_lengths(own)), (1, 4, 4));
        mlxterp_batch_free(own);
        let value = made(|out| mlxterp_trace_read(trace, c"output".as_ptr(), out));
        mlxterp_trace_free(trace);
        let other = scene.trace();
        let expected = numbers(made(|out| mlxterp_trace_read(other, c"output".as_ptr(), out)));
        mlxterp_trace_free(other);
        assert_eq!(numbers(value), expected);
    }
}

#[test]
fn freeing_twice_nothing_or_something_else_harms_nothing() {
    let scene = Scene::new();
    unsafe {
        let array = floats(&[1.0]);
        let live = mlxterp_live_handles();
        mlxterp_trace_free(array.cast());
        assert_eq!(mlxterp_live_handles(), live, "a handle was freed as something that it is not");
        mlxterp_array_free(array);
        mlxterp_array_free(array);
        mlxterp_array_free(scene.model.cast());
        mlxterp_array_free(null_mut());
        mlxterp_model_free(null_mut());
        mlxterp_batch_free(null_mut());
        mlxterp_trace_free(null_mut());
        mlxterp_intervention_free(null_mut());
        mlxterp_string_free(null_mut());
        assert_eq!(mlxterp_live_handles(), live - 1);
        assert_eq!(mlxterp_model_num_layers(scene.model), 2);
    }
}

#[test]
fn a_retained_handle_is_freed_on_its_own() {
    let scene = Scene::new();
    unsafe {
        let trace = scene.trace();
        let second = mlxterp_trace_retain(trace);
        let zero = made(|out| mlxterp_intervention_zero_out(out));
        ok(mlxterp_trace_intervene(trace, c"layers.0.mlp".as_ptr(), zero));
        mlxterp_intervention_free(zero);
        mlxterp_trace_free(trace);
        // The same trace: the write is there.
        let value = made(|out| mlxterp_trace_read(second, c"layers.0.mlp".as_ptr(), out));
        assert!(numbers(value).iter().all(|v| *v == 0.0));
        mlxterp_trace_free(second);
        let model = mlxterp_model_retain(scene.model);
        mlxterp_model_free(model);
    }
}
