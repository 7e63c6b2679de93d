//! (k) of the name contract: a step with a cache equals that position of a full forward.

mod support;

use mlxterp::ErrorKind;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::Array;
use mlxterp::core::trace::{Cache, TraceOptions};
use support::*;

/// What float32 rounding may do when sums are taken over keys in another order.
const ROUNDING: f32 = 3e-5;

const MODELS: [&str; 6] = ["llama", "mistral", "llama_layer_types", "qwen3", "smollm3", "llama_yarn"];

fn step(model: &Model, rows: &[Vec<u32>], cache: &Cache) -> (Array, Cache) {
    let trace = model.trace_with(rows.to_vec(), &TraceOptions::default().after(cache)).unwrap();
    (trace.output().unwrap(), trace.cache().unwrap())
}

/// Values of row `r`, positions `from..to`.
fn part(value: &Array, r: usize, from: usize, to: usize) -> Vec<f32> {
    let width = value.size() / value.dim(0) / value.dim(1);
    let all = values(value);
    let row = &all[r * value.dim(1) * width..];
    row[from * width..to * width].to_vec()
}

#[test]
fn steps_with_a_cache_equal_one_full_forward() {
    for name in MODELS {
        let model = tiny(name);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        let rows = expected.ids("ids");
        let full = model.forward(rows.clone()).unwrap();
        let length = rows[0].len();
        let mut cache = Cache::default();
        // A prompt, then several tokens at once, then one by one.
        let mut at = 0;
        for n in [4, 3].into_iter().chain(std::iter::repeat_n(1, length - 7)) {
            let now: Vec<Vec<u32>> = rows.iter().map(|r| r[at..at + n].to_vec()).collect();
            let (logits, next) = step(&model, &now, &cache);
            for r in 0..rows.len() {
                let what = format!("{name} row {r} at {at}");
                assert_close(&part(&logits, r, 0, n), &part(&full, r, at, at + n), ROUNDING, &what);
            }
            (cache, at) = (next, at + n);
        }
        assert_eq!(cache.lengths(), vec![length; rows.len()]);
    }
}

#[test]
fn rows_of_unequal_length_keep_their_own_positions() {
    for name in MODELS {
        let model = tiny(name);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        let rows = expected.ids("ids");
        let alone: Vec<Array> = rows.iter().map(|r| model.forward(r.clone()).unwrap()).collect();
        // Three steps in which the rows take unequal numbers of tokens.
        let cuts = [[3, 5, 6, 11], [1, 2, 8, 9]];
        let mut cache = Cache::default();
        for s in 0..4 {
            let from = |r: usize| if s == 0 { 0 } else { cuts[r][s - 1] };
            let now: Vec<Vec<u32>> = (0..2).map(|r| rows[r][from(r)..cuts[r][s]].to_vec()).collect();
            let (logits, next) = step(&model, &now, &cache);
            for r in 0..2 {
                let what = format!("{name} row {r} step {s}");
                let n = now[r].len();
                assert_close(&part(&logits, r, 0, n), &part(&alone[r], 0, from(r), cuts[r][s]), ROUNDING, &what);
            }
            cache = next;
        }
        assert_eq!(cache.lengths(), [11, 9]);
    }
}

#[test]
fn a_changed_key_stays_in_the_cache_and_the_old_cache_stays_as_it_was() {
    let model = tiny("llama");
    let ids = vec![3u32, 9, 4, 17, 8, 22];
    let patched = TraceOptions::default()
        .after(&Cache::default())
        .with("layers.0.attn.k", Intervention::zero_out().positions([1]));
    let (_, plain) = step(&model, &[ids[..4].to_vec()], &Cache::default());
    let changed = model.trace_with(ids[..4].to_vec(), &patched).unwrap().cache().unwrap();
    let both = model.trace_with(ids.clone(), &patched).unwrap().output().unwrap();
    let (later, _) = step(&model, &[ids[4..].to_vec()], &changed);
    assert_close(&part(&later, 0, 0, 2), &part(&both, 0, 4, 6), ROUNDING, "patched");
    let (untouched, _) = step(&model, &[ids[4..].to_vec()], &plain);
    let full = model.forward(ids).unwrap();
    assert_close(&part(&untouched, 0, 0, 2), &part(&full, 0, 4, 6), ROUNDING, "plain");
    assert!(values(&later) != values(&untouched));
}

#[test]
fn forks_repeated_rows_and_late_reads_go_on_from_a_cache() {
    let model = tiny("llama");
    let ids = vec![3u32, 9, 4, 17, 8, 22];
    let full = model.forward(ids.clone()).unwrap();
    let (_, cache) = step(&model, &[ids[..4].to_vec()], &Cache::default());
    let trace = model.trace_with(ids[4..5].to_vec(), &TraceOptions::default().after(&cache)).unwrap();
    trace.get("layers.0.output").unwrap();
    let fork = trace.fork_rows(3).unwrap();
    let next = fork.cache().unwrap();
    fork.output().unwrap().eval().unwrap();
    // What was trimmed by the evaluation is built again, from the same past.
    let late = fork.get("layers.1.attn.k").unwrap();
    assert_eq!(late.dim(2), 1);
    let (last, _) = step(&model, &vec![ids[5..].to_vec(); 3], &next);
    for r in 0..3 {
        assert_close(&part(&last, r, 0, 1), &part(&full, 0, 5, 6), ROUNDING, "repeated");
    }
    // The explicit way sees the past too, and the pattern spans it.
    let again = model.trace_with(ids[4..].to_vec(), &TraceOptions::default().after(&cache)).unwrap();
    let pattern = again.get("layers.1.attn.pattern").unwrap();
    assert_eq!(pattern.shape()[2..], [2, 6]);
    assert_close(&values(&again.output().unwrap()), &part(&full, 0, 4, 6), ROUNDING, "explicit");
}

#[test]
fn misuse_is_an_error_that_says_what_to_do() {
    let model = tiny("llama");
    let plain = model.trace(vec![1u32, 2]).unwrap();
    let e = plain.cache().unwrap_err();
    assert!(e.message().contains("start it with a cache"), "{e}");
    let (_, cache) = step(&model, &[vec![1, 2], vec![3, 4]], &Cache::default());
    let after = TraceOptions::default().after(&cache);
    let e = model.trace_with(vec![5u32], &after).map(drop).unwrap_err();
    assert!(e.message().contains("made with 2 rows, the batch has 1"), "{e}");
    let e = tiny("qwen3").trace_with(vec![vec![5u32], vec![6]], &after).map(drop).unwrap_err();
    assert!(e.message().contains("another model"), "{e}");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let long = vec![vec![5u32; model.context_length().unwrap() - 1]; 2];
    let e = model.trace_with(long, &after).map(drop).unwrap_err();
    assert!(e.message().contains("in the cache"), "{e}");
}
