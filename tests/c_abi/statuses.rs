//! Which status and which words a mistake gets.

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use mlxterp::ffi::mlxterp_status::*;
use mlxterp::ffi::*;

use crate::Scene;
use crate::case::{floats, made, message, model_path, ok, remembering, tokens};

const F32: u32 = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;

#[track_caller]
fn fails(status: mlxterp_status, wanted: mlxterp_status, words: &[&str]) {
    assert_eq!(status, wanted, "{}", message());
    for word in words {
        assert!(message().contains(word), "no '{word}' in: {}", message());
    }
}

#[test]
fn a_struct_of_another_size_is_refused() {
    let scene = Scene::new();
    let batch = tokens(scene.model, &[3]);
    let path = model_path();
    for size in
        [0, std::mem::offset_of!(mlxterp_trace_options, cache) - 8, size_of::<mlxterp_trace_options>() + 8, usize::MAX]
    {
        let mut options = std::mem::MaybeUninit::uninit();
        ok(unsafe { mlxterp_trace_options_init(options.as_mut_ptr()) });
        let mut options = unsafe { options.assume_init() };
        options.struct_size = size;
        let mut out = null_mut();
        let status = unsafe { mlxterp_trace_start(scene.model, batch, &options, &mut out) };
        fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &[&size.to_string(), "mlxterp_trace_options_init"]);
    }
    let first = std::mem::offset_of!(mlxterp_model_options, opaque_names);
    for size in [0, first - 8, size_of::<mlxterp_model_options>() + 8, usize::MAX] {
        let mut options = std::mem::MaybeUninit::uninit();
        ok(unsafe { mlxterp_model_options_init_sized(options.as_mut_ptr(), size_of::<mlxterp_model_options>()) });
        let mut options = unsafe { options.assume_init() };
        options.struct_size = size;
        let mut out = null_mut();
        let status = unsafe { mlxterp_model_load(path.as_ptr(), &options, &mut out) };
        fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &[&size.to_string(), "mlxterp_model_options_init"]);
    }
    // A caller of the first version, whose struct ends before `cache`, is understood; what stands behind it is not read.
    let mut options = remembering(std::ptr::without_provenance(8));
    options.struct_size = std::mem::offset_of!(mlxterp_trace_options, cache);
    unsafe { mlxterp_trace_free(made(|out| mlxterp_trace_start(scene.model, batch, &options, out))) };
    unsafe { mlxterp_batch_free(batch) };
    let filled = size_of::<mlxterp_model_options>();
    for size in [0, first - 8, filled + 8, usize::MAX] {
        let mut options = std::mem::MaybeUninit::uninit();
        let status = unsafe { mlxterp_model_options_init_sized(options.as_mut_ptr(), size) };
        fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &[&size.to_string(), &filled.to_string(), "newer"]);
    }
    // Nothing is written behind the caller's struct, whose size is that of its header.
    let mut options = std::mem::MaybeUninit::<mlxterp_model_options>::uninit();
    unsafe { options.as_mut_ptr().cast::<u8>().write_bytes(0xA5, filled) };
    ok(unsafe { mlxterp_model_options_init(options.as_mut_ptr()) });
    let bytes = unsafe { std::slice::from_raw_parts(options.as_ptr().cast::<u8>(), filled) };
    assert_eq!(bytes[..8], first.to_ne_bytes());
    assert!(bytes[first..].iter().all(|b| *b == 0xA5));
    fails(unsafe { mlxterp_trace_options_init(null_mut()) }, MLXTERP_STATUS_INVALID_ARGUMENT, &["NULL"]);
    fails(unsafe { mlxterp_model_options_init(null_mut()) }, MLXTERP_STATUS_INVALID_ARGUMENT, &["NULL"]);
}

#[test]
fn numbers_without_meaning_are_refused() {
    let scene = Scene::new();
    let array = floats(&[1.0, 2.0]);
    let trace = scene.trace();
    let scale = made(|out| unsafe { mlxterp_intervention_scale(2.0, out) });
    let mut out = null_mut();
    let mut changed = null_mut();
    let strange = mlxterp_index { kind: 9, reserved: 0, start: 0, stop: 0, step: 1 };
    let ellipsis = mlxterp_index { kind: 2, ..strange };
    let outside = mlxterp_index { kind: 1, start: 2, ..strange };
    let refused = |status, word| fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &[word]);
    unsafe {
        refused(mlxterp_array_unary(99, array, &mut out), "99");
        refused(mlxterp_array_binary(99, array, array, &mut out), "99");
        refused(mlxterp_array_reduce(99, array, 0, false, &mut out), "99");
        refused(mlxterp_array_cast(array, 99, &mut out), "99");
        refused(mlxterp_array_reduce(0, array, 1, false, &mut out), "axis 1");
        refused(mlxterp_array_softmax(array, -2, &mut out), "axis -2");
        refused(mlxterp_array_index(array, &strange, 1, &mut out), "9");
        refused(mlxterp_array_index(array, [ellipsis, ellipsis].as_ptr(), 2, &mut out), "ellipsis");
        refused(mlxterp_array_topk(array, 3, &mut out), "top 3");
        refused(mlxterp_array_topk(array, 0, &mut out), "top 0");
        refused(mlxterp_array_full([-1].as_ptr(), 1, 0.0, F32, &mut out), "negative");
        refused(mlxterp_array_concatenate(null(), 0, 0, &mut out), "nothing");
        refused(mlxterp_array_reshape(array, null(), 1, &mut out), "NULL");
        refused(mlxterp_array_eval_all([array.cast_const()].as_ptr(), usize::MAX), "elements");
        refused(
            mlxterp_array_from_data([0f32].as_ptr().cast(), [i64::MAX, i64::MAX].as_ptr(), 2, F32, &mut out),
            "large",
        );
        refused(mlxterp_intervention_select(scale, c"columns".as_ptr(), &0, 1, &mut changed), "columns");
        refused(mlxterp_intervention_clamp(f64::NAN, 1.0, &mut changed), "NaN");
        assert_ne!(mlxterp_array_index(array, &outside, 1, &mut out), MLXTERP_STATUS_OK);
        assert!(out.is_null() && changed.is_null());
        mlxterp_array_free(array);
        mlxterp_trace_free(trace);
        mlxterp_intervention_free(scale);
    }
}

#[test]
fn a_mistake_in_a_name_is_answered_with_the_nearest() {
    let scene = Scene::new();
    let trace = scene.trace();
    let mut out = null_mut();
    let status = unsafe { mlxterp_trace_read(trace, c"layers.99.mlp".as_ptr(), &mut out) };
    fails(status, MLXTERP_STATUS_UNKNOWN_SITE, &["'layers.99.mlp'", "2 layers", "did you mean", "layers.1.mlp"]);
    unsafe { mlxterp_trace_free(trace) };
}

#[test]
fn data_before_eval_is_an_error() {
    let scene = Scene::new();
    let trace = scene.trace();
    let value = made(|out| unsafe { mlxterp_trace_read(trace, c"layers.0.mlp".as_ptr(), out) });
    let mut data = std::ptr::dangling();
    unsafe {
        assert!(!mlxterp_array_is_evaluated(value));
        assert!(mlxterp_array_strides(value).is_null());
        assert_eq!(std::slice::from_raw_parts(mlxterp_array_shape(value), 3), [1, 4, 24]);
        assert_eq!((mlxterp_array_ndim(value), mlxterp_array_byte_size(value)), (3, 4 * 24 * 4));
        fails(mlxterp_array_data(value, &mut data), MLXTERP_STATUS_NOT_EVALUATED, &["evaluate"]);
        assert!(data.is_null());
        assert!(!mlxterp_array_is_evaluated(value), "looking at an array computed it");
        ok(mlxterp_array_eval(value));
        ok(mlxterp_array_data(value, &mut data));
        assert_eq!(std::slice::from_raw_parts(mlxterp_array_strides(value), 3)[1..], [24, 1]);
        mlxterp_array_free(value);
        mlxterp_trace_free(trace);
    }
}

#[test]
fn writes_that_cannot_be_are_told_apart() {
    let scene = Scene::new();
    let trace = scene.trace();
    let wide = floats(&[1.0; 23]);
    let narrow = floats(&[1.0]);
    unsafe {
        let first = c"layers.0.mlp".as_ptr();
        fails(mlxterp_trace_write(trace, first, wide), MLXTERP_STATUS_SHAPE, &["23", "24"]);
        let late = made(|out| mlxterp_trace_read(trace, c"output".as_ptr(), out));
        fails(mlxterp_trace_write(trace, first, narrow), MLXTERP_STATUS_STALE_WRITE, &["layers.0.mlp"]);
        for array in [wide, narrow, late] {
            mlxterp_array_free(array);
        }
        mlxterp_trace_free(trace);
    }
}

#[test]
fn a_strict_trace_refuses_a_change_without_effect() {
    let scene = Scene::new();
    let batch = tokens(scene.model, &[3, 7]);
    let same = made(|out| unsafe { mlxterp_intervention_scale(1.0, out) });
    let patterns = [c"layers.0.mlp".as_ptr()];
    let interventions = [same.cast_const()];
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_trace_options_init(options.as_mut_ptr()) });
    let mut options = unsafe { options.assume_init() };
    options.patterns = patterns.as_ptr();
    options.interventions = interventions.as_ptr();
    options.intervention_count = 1;
    options.strict = 1;
    unsafe {
        let trace = made(|out| mlxterp_trace_start(scene.model, batch, &options, out));
        let output = made(|out| mlxterp_trace_read(trace, c"output".as_ptr(), out));
        ok(mlxterp_array_eval(output));
        fails(mlxterp_trace_finish(trace), MLXTERP_STATUS_STRICT, &["layers.0.mlp"]);
        mlxterp_array_free(output);
        mlxterp_trace_free(trace);
        mlxterp_intervention_free(same);
        mlxterp_batch_free(batch);
    }
}

#[test]
fn batches_that_cannot_be_are_refused() {
    let scene = Scene::new();
    let mut out = null_mut();
    let from = |ids: &[u32], lengths: &[usize], out: *mut *mut mlxterp_batch| unsafe {
        mlxterp_batch_from_tokens(scene.model, ids.as_ptr(), lengths.as_ptr(), lengths.len(), out)
    };
    fails(from(&[3, 64], &[2], &mut out), MLXTERP_STATUS_INVALID_ARGUMENT, &["64"]);
    fails(from(&[], &[], &mut out), MLXTERP_STATUS_INVALID_ARGUMENT, &[]);
    fails(from(&[3], &[1, 0], &mut out), MLXTERP_STATUS_INVALID_ARGUMENT, &[]);
    fails(from(&[3; 129], &[129], &mut out), MLXTERP_STATUS_INVALID_ARGUMENT, &["129", "128"]);
    fails(from(&[3], &[usize::MAX, 2], &mut out), MLXTERP_STATUS_INVALID_ARGUMENT, &["memory"]);
    assert!(out.is_null());
    let trace = scene.trace();
    let mut fork = null_mut();
    for n in [0, 1 << 31, usize::MAX] {
        let status = unsafe { mlxterp_trace_fork_rows(trace, n, &mut fork) };
        fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &[&format!("fork_rows({n})")]);
    }
    assert!(fork.is_null());
    unsafe { mlxterp_trace_free(trace) };
}

#[test]
fn a_missing_model_is_not_found() {
    let _scene = Scene::new();
    let mut out = null_mut();
    let status = unsafe { mlxterp_model_load(c"/nowhere/model.gguf".as_ptr(), null(), &mut out) };
    fails(status, MLXTERP_STATUS_NOT_FOUND, &["/nowhere/model.gguf"]);
}

#[test]
fn getters_answer_nothing_for_what_is_no_handle() {
    let scene = Scene::new();
    let wrong = scene.model.cast::<mlxterp_array>();
    unsafe {
        assert_eq!((mlxterp_array_ndim(null()), mlxterp_array_size(wrong)), (0, 0));
        assert!(mlxterp_array_shape(wrong).is_null() && mlxterp_array_retain(null()).is_null());
        assert!(!mlxterp_array_is_evaluated(null()) && !mlxterp_array_is_shared(wrong, null()));
        assert_eq!((mlxterp_model_num_layers(null()), mlxterp_model_num_layers(scene.model)), (0, 2));
        assert!(mlxterp_batch_lengths(null()).is_null() && mlxterp_trace_retain(null()).is_null());
    }
}

#[test]
fn text_goes_both_ways() {
    let scene = Scene::new();
    let mut ids = [u32::MAX; 4];
    let mut count = 0;
    unsafe {
        ok(mlxterp_model_encode(scene.model, c"!#".as_ptr(), true, null_mut(), 0, &mut count));
        assert_eq!(count, 2);
        ok(mlxterp_model_encode(scene.model, c"!#".as_ptr(), true, ids.as_mut_ptr(), 1, &mut count));
        assert_eq!((count, ids), (2, [3, u32::MAX, u32::MAX, u32::MAX]));
        ok(mlxterp_model_encode(scene.model, c"!#".as_ptr(), true, ids.as_mut_ptr(), 4, &mut count));
        assert_eq!((count, ids), (2, [3, 5, u32::MAX, u32::MAX]));
        let text = made(|out| mlxterp_model_decode(scene.model, ids.as_ptr(), 2, true, out));
        assert_eq!(CStr::from_ptr(text), c"!#");
        mlxterp_string_free(text);
    }
}

#[test]
fn operators_refuse_what_they_cannot_do() {
    let _scene = Scene::new();
    let six = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let two = floats(&[1.0, 2.0]);
    let (reshape, broadcast, turn) = (mlxterp_array_reshape, mlxterp_array_broadcast_to, mlxterp_array_transpose);
    let slice = mlxterp_index { kind: 0, reserved: 0, start: MLXTERP_INDEX_NONE, stop: MLXTERP_INDEX_NONE, step: 1 };
    let add = mlxterp_binary::MLXTERP_BINARY_ADD as u32;
    let mut out = null_mut();
    // Refused by the door or by the evaluation: never a crash, and never a value.
    let mut refused = |what: &str, call: &mut dyn FnMut(*mut *mut mlxterp_array) -> mlxterp_status| {
        let mut status = call(&mut out);
        if status == MLXTERP_STATUS_OK {
            status = unsafe { mlxterp_array_eval(out) };
            unsafe { mlxterp_array_free(out) };
        } else {
            assert!(out.is_null(), "{what}");
        }
        assert_ne!(status, MLXTERP_STATUS_OK, "{what}");
        assert_ne!(status, MLXTERP_STATUS_PANIC, "{what}: {}", message());
        assert!(!message().is_empty(), "{what}");
    };
    unsafe {
        let table = made(|out| reshape(six, [2, 3].as_ptr(), 2, out));
        let lists = [six.cast_const(), two];
        refused("reshape to 7", &mut |out| reshape(six, [7].as_ptr(), 1, out));
        refused("reshape with two unknowns", &mut |out| reshape(six, [-1, -1].as_ptr(), 2, out));
        refused("reshape to a negative length", &mut |out| reshape(six, [-2, -3].as_ptr(), 2, out));
        refused("reshape beyond 32 bits", &mut |out| reshape(six, [1 << 40].as_ptr(), 1, out));
        refused("broadcast 6 to 7", &mut |out| broadcast(six, [7].as_ptr(), 1, out));
        refused("broadcast to a negative length", &mut |out| broadcast(six, [-6].as_ptr(), 1, out));
        refused("broadcast to fewer axes", &mut |out| broadcast(table, [3].as_ptr(), 1, out));
        refused("an axis twice", &mut |out| turn(table, [0, 0].as_ptr(), 2, out));
        refused("an axis too high", &mut |out| turn(table, [0, 2].as_ptr(), 2, out));
        refused("too few axes", &mut |out| turn(table, [0].as_ptr(), 1, out));
        refused("adding 6 to 2", &mut |out| mlxterp_array_binary(add, six, two, out));
        refused("multiplying matrices that do not meet", &mut |out| mlxterp_array_binary(17, table, table, out));
        refused("stacking 6 on 2", &mut |out| mlxterp_array_stack(lists.as_ptr(), 2, 0, out));
        refused("stacking along a far axis", &mut |out| mlxterp_array_stack(lists.as_ptr(), 1, 1 << 32, out));
        refused("stacking along axis 5", &mut |out| mlxterp_array_stack(lists.as_ptr(), 1, 5, out));
        refused("joining 2 x 3 and 2", &mut |out| {
            mlxterp_array_concatenate([table.cast_const(), two].as_ptr(), 2, 0, out)
        });
        for step in [0, -1, i64::MIN] {
            let strange = mlxterp_index { step, ..slice };
            refused("a strange step", &mut |out| mlxterp_array_index(six, &strange, 1, out));
        }
        for start in [6, -7, i64::MAX, i64::MIN + 1] {
            let far = mlxterp_index { kind: 1, start, ..slice };
            refused("an element too far", &mut |out| mlxterp_array_index(six, &far, 1, out));
            refused("an element too far", &mut |out| mlxterp_array_index_update(six, &far, 1, two, out));
        }
        refused("more subscripts than axes", &mut |out| mlxterp_array_index(six, [slice; 2].as_ptr(), 2, out));
        refused("2 values in place of 6", &mut |out| mlxterp_array_index_update(six, &slice, 1, two, out));
        refused("float indices", &mut |out| mlxterp_array_take(six, two, 0, out));
        let far = made(|out| mlxterp_array_full([1].as_ptr(), 1, 6.0, 8, out));
        refused("an index too far", &mut |out| mlxterp_array_take(six, far, 0, out));
        for array in [six, two, table, far] {
            mlxterp_array_free(array);
        }
    }
}

#[test]
fn more_than_memory_is_an_error() {
    let _scene = Scene::new();
    let most = i64::from(i32::MAX);
    let mut out = null_mut();
    unsafe {
        let long = made(|out| mlxterp_array_full([most].as_ptr(), 1, 1.0, F32, out));
        let status = mlxterp_array_broadcast_to(long, [most, most].as_ptr(), 2, &mut out);
        fails(status, MLXTERP_STATUS_INVALID_ARGUMENT, &["[2147483647, 2147483647]"]);
        assert!(out.is_null());
        // 128 TB: fine as a shape, not as data.
        let high = made(|out| mlxterp_array_broadcast_to(long, [1 << 14, most].as_ptr(), 2, out));
        let sum = made(|out| mlxterp_array_binary(0, high, high, out));
        assert_eq!(mlxterp_array_byte_size(sum) >> 46, 1);
        fails(mlxterp_array_eval(sum), MLXTERP_STATUS_BACKEND, &["[16384, 2147483647]", "this machine has"]);
        fails(mlxterp_array_eval_all([sum.cast_const()].as_ptr(), 1), MLXTERP_STATUS_BACKEND, &["this machine has"]);
        fails(mlxterp_array_contiguous(high, &mut out), MLXTERP_STATUS_BACKEND, &["this machine has"]);
        for array in [long, high, sum] {
            mlxterp_array_free(array);
        }
    }
}

#[test]
fn whole_numbers_are_divided_as_numpy_divides_them() {
    let _scene = Scene::new();
    let least = i32::MIN;
    let a = [7i32, -7, 7, -7, 5, -5, 0, least, least, least];
    let b = [2i32, 2, -2, -2, 0, 0, 0, -1, 1, 3];
    // numpy.floor_divide and numpy.remainder of these; the smallest number has no opposite.
    let quotients = [3, -4, -4, 3, 0, 0, 0, least, least, -715827883];
    let remainders = [1, 1, -1, -1, 0, 0, 0, 0, 0, 1];
    let int32 = mlxterp_dtype::MLXTERP_DTYPE_INT32 as u32;
    let from = |values: &[i32; 10]| {
        made(|out| unsafe { mlxterp_array_from_data(values.as_ptr().cast(), [10].as_ptr(), 1, int32, out) })
    };
    let (a, b) = (from(&a), from(&b));
    let divide = [
        (mlxterp_binary::MLXTERP_BINARY_FLOOR_DIVIDE, quotients),
        (mlxterp_binary::MLXTERP_BINARY_REMAINDER, remainders),
    ];
    for (op, expected) in divide {
        let result = made(|out| unsafe { mlxterp_array_binary(op as u32, a, b, out) });
        let mut data = null();
        unsafe {
            ok(mlxterp_array_eval(result));
            ok(mlxterp_array_data(result, &mut data));
            assert_eq!(std::slice::from_raw_parts(data.cast::<i32>(), 10), expected);
            // Without signs, and mixed with what is no number: nothing ends the process.
            for (x, y) in [(8u32, 4u32), (8, 0), (0, 0), (3, 7)] {
                let x = made(|out| mlxterp_array_cast(a, x, out));
                let y = made(|out| mlxterp_array_cast(b, y, out));
                let mixed = made(|out| mlxterp_array_binary(op as u32, x, y, out));
                ok(mlxterp_array_eval(mixed));
                for array in [x, y, mixed] {
                    mlxterp_array_free(array);
                }
            }
            mlxterp_array_free(result);
        }
    }
    unsafe {
        mlxterp_array_free(a);
        mlxterp_array_free(b);
    }
}
