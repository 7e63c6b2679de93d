//! What a trace means: order, writes, forks, replay, receipts.

mod support;

use mlxterp::ErrorKind;
use mlxterp::core::arch::tape::Index;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self as t, Array, Dtype, graph_dot};
use mlxterp::core::trace::{Keep, TraceOptions};
use support::*;

const IDS: [u32; 6] = [3, 7, 11, 20, 33, 5];

fn model() -> Model {
    tiny("llama")
}

fn ids() -> Vec<u32> {
    IDS.to_vec()
}

#[test]
fn reads_in_any_order_give_the_same_values() {
    let model = model();
    let names: Vec<String> = model.program().hooks.iter().map(|(n, _)| n.clone()).collect();
    let forwards = model.trace(ids()).unwrap();
    let ordered: Vec<Vec<u32>> = names.iter().map(|n| bits(&forwards.get(n).unwrap())).collect();
    let backwards = model.trace(ids()).unwrap();
    for (name, expected) in names.iter().zip(&ordered).rev() {
        // The explicit way through attention is taken or not by order: equal bits on the CPU backend, close elsewhere.
        assert!(bits(&backwards.get(name).unwrap()) == *expected, "{name}");
    }
}

#[test]
fn nothing_is_computed_or_built_before_it_is_asked_for() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let early = trace.get("layers.0.output").unwrap();
    assert!(!early.is_evaluated());
    let whole = mlxterp::core::tensor::graph_size([&trace.output().unwrap()]).unwrap();
    let part = mlxterp::core::tensor::graph_size([&early]).unwrap();
    assert!(part < whole, "{part} of {whole} operations");
}

/// Names of a graph's operations, in the order in which MLX lists them.
fn operations(dot: &str) -> Vec<&str> {
    let labels = dot.lines().filter(|l| l.contains("shape=rectangle"));
    labels.map(|l| l.split("label =\"").nth(1).and_then(|l| l.split('"').next()).unwrap_or(l)).collect()
}

#[test]
fn an_untraced_forward_builds_the_same_graph() {
    let model = model();
    let plain = graph_dot([&model.forward(ids()).unwrap()]).unwrap();
    let traced = graph_dot([&model.trace(ids()).unwrap().output().unwrap()]).unwrap();
    assert!(operations(&plain).len() > 50);
    assert_eq!(operations(&plain), operations(&traced));
}

#[test]
fn a_late_read_replays_with_the_same_edits() {
    let model = model();
    let options = TraceOptions::default().with("layers.1.mlp", Intervention::scale(0.3));
    let kept = model.trace_with(ids(), &TraceOptions { keep: Keep::All, ..options.clone() }).unwrap();
    let trace = model.trace_with(ids(), &options).unwrap();
    trace.output().unwrap().eval().unwrap();
    kept.output().unwrap().eval().unwrap();
    for name in ["layers.0.attn", "layers.1.mlp", "layers.1.mlp.act", "layers.1.attn.pattern"] {
        assert!(bits(&trace.get(name).unwrap()) == bits(&kept.get(name).unwrap()), "{name}");
    }
}

#[test]
fn a_custom_intervention_runs_once_even_when_replayed() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let model = model();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let double = Intervention::custom("double", move |_, v| {
        counted.fetch_add(1, Ordering::SeqCst);
        t::add(v, v).map(Some)
    });
    let trace = model.trace_with(ids(), &TraceOptions::default().with("layers.0.attn", double)).unwrap();
    trace.output().unwrap().eval().unwrap();
    trace.get("layers.1.mlp").unwrap().eval().unwrap();
    trace.get("layers.0.mlp").unwrap().eval().unwrap();
    trace.receipts().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_write_behind_a_value_that_was_read_is_stale() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let value = trace.get("layers.0.attn.output").unwrap();
    trace.get("layers.1.output").unwrap();
    let error = trace.set("layers.0.attn.output", &value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleWrite);
    assert!(error.message().contains("layers.0.attn") && error.message().contains("layers.1"), "{error}");
    // In a fork anything may be written, and the first trace does not notice.
    let before = bits(&trace.output().unwrap());
    let fork = trace.fork().unwrap();
    fork.set("layers.0.attn.output", &t::zeros_like(&value).unwrap()).unwrap();
    assert!(bits(&fork.output().unwrap()) != before);
    assert!(bits(&trace.output().unwrap()) == before);
}

#[test]
fn a_write_behind_something_only_built_rebuilds_it() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let attn = trace.get("layers.1.attn.output").unwrap();
    // Reading the pattern of layer 1 built layer 0; k of layer 1 does not depend on q.
    let k = trace.get("layers.1.attn.k").unwrap();
    drop(attn);
    let q = model.trace(ids()).unwrap().get("layers.1.attn.q").unwrap();
    let fresh = model.trace(ids()).unwrap();
    fresh.get("layers.1.attn.k").unwrap();
    fresh.set("layers.1.attn.q", &t::zeros_like(&q).unwrap()).unwrap();
    let upfront =
        model.trace_with(ids(), &TraceOptions::default().with("layers.1.attn.q", Intervention::zero_out())).unwrap();
    assert!(bits(&fresh.output().unwrap()) == bits(&upfront.output().unwrap()));
    assert!(bits(&fresh.get("layers.1.attn.k").unwrap()) == bits(&k));
}

#[test]
fn values_read_before_a_write_stay_what_they_were() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let old = trace.get("layers.1.mlp.output").unwrap();
    let before = bits(&old);
    trace.set("layers.1.mlp.output", &t::zeros_like(&old).unwrap()).unwrap();
    assert!(values(&trace.get("layers.1.mlp.output").unwrap()).iter().all(|v| *v == 0.0));
    assert!(bits(&old) == before);
}

#[test]
fn parts_can_be_written() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let old = values(&trace.get("layers.0.output").unwrap());
    let width = old.len() / IDS.len();
    let last = [Index::Slice { start: None, stop: None, step: 1 }, Index::At(-1)];
    let nine = Array::from_slice(&[9f32], &[1]).unwrap();
    trace.set_at("layers.0.output", &last, &nine).unwrap();
    let new = values(&trace.get("layers.0.output").unwrap());
    assert!(new[..old.len() - width] == old[..old.len() - width]);
    assert!(new[old.len() - width..].iter().all(|v| *v == 9.0));
}

#[test]
fn writes_keep_dtype_and_shape() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let value = trace.get("layers.0.output").unwrap();
    trace.set("layers.0.output", &t::cast(&value, Dtype::Float16).unwrap()).unwrap();
    assert_eq!(trace.get("layers.0.output").unwrap().dtype(), value.dtype());
    let wrong = t::full(&[1, 2, 3], 0.0, Dtype::Float32).unwrap();
    let error = trace.set("layers.1.output", &wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(
        error.message().contains("[1, 2, 3]") && error.message().contains(&format!("{:?}", value.shape())),
        "{error}"
    );
    // The refused write left nothing behind.
    assert!(trace.receipts().unwrap().iter().all(|r| !r.site.contains("layers.1")));
    trace.output().unwrap().eval().unwrap();
}

#[test]
fn unknown_names_are_errors_before_anything_runs() {
    let model = model();
    for name in ["layers.99.mlp", "layers.0.atn", "", "layers.*.nothing"] {
        let error = model.trace(ids()).unwrap().get(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownSite, "{name}: {error}");
        let options = TraceOptions::default().with(name, Intervention::zero_out());
        let error = model.trace_with(ids(), &options).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::UnknownSite, "{name}: {error}");
    }
    let error = model.trace(ids()).unwrap().get("layers.99.mlp").unwrap_err();
    assert!(error.message().contains("layers.1.mlp") && error.message().contains("2 layers"), "{error}");
}

#[test]
fn selectors_reach_rows_positions_heads_and_neurons_only() {
    let model = model();
    let rows = vec![vec![3, 7, 11], ids()];
    let plain = model.trace(rows.clone()).unwrap();
    let base = values(&plain.get("layers.1.attn.z").unwrap());
    let dims = plain.get("layers.1.attn.z").unwrap().dims();
    let zero = Intervention::zero_out().rows([1]).positions([-1]).heads([0]).neurons([2, -1]);
    let trace = model.trace_with(rows, &TraceOptions::default().with("layers.1.attn.z", zero)).unwrap();
    let new = values(&trace.get("layers.1.attn.z").unwrap());
    let mut touched = 0;
    for (i, (a, b)) in new.iter().zip(&base).enumerate() {
        let (d, rest) = (i % dims[3], i / dims[3]);
        let (p, rest) = (rest % dims[2], rest / dims[2]);
        let (h, r) = (rest % dims[1], rest / dims[1]);
        let chosen = r == 1 && p == 5 && h == 0 && (d == 2 || d == dims[3] - 1);
        assert_eq!(a, if chosen { &0.0 } else { b });
        touched += usize::from(chosen);
    }
    assert_eq!(touched, 2);
    let receipts = trace.receipts().unwrap();
    assert_eq!((receipts[0].rows.as_slice(), receipts[0].positions.as_slice()), (&[1][..], &[5][..]));
}

#[test]
fn the_last_token_is_each_rows_own() {
    let model = model();
    let rows = vec![vec![3, 7, 11], ids()];
    let add = || Intervention::scale(3.0).positions([-1]);
    let batch = model.trace_with(rows.clone(), &TraceOptions::default().with("layers.0.output", add())).unwrap();
    let together = batch.output().unwrap();
    for (r, solo) in rows.iter().enumerate() {
        let alone = model.trace_with(solo.clone(), &TraceOptions::default().with("layers.0.output", add())).unwrap();
        assert_close(&row(&together, r, solo.len()), &values(&alone.output().unwrap()), 1e-5, "row");
    }
}

#[test]
fn noise_is_seeded_and_each_rows_own() {
    let model = model();
    let noise = |seed| TraceOptions::default().with("layers.0.output", Intervention::noise(0.5, seed));
    let rows = vec![vec![3, 7, 11], ids()];
    let one = model.trace_with(rows.clone(), &noise(1)).unwrap().output().unwrap();
    let again = model.trace_with(rows.clone(), &noise(1)).unwrap().output().unwrap();
    let other = model.trace_with(rows.clone(), &noise(2)).unwrap().output().unwrap();
    assert!(bits(&one) == bits(&again) && bits(&one) != bits(&other));
    let solo = model.trace_with(rows[0].clone(), &noise(1)).unwrap().output().unwrap();
    assert_close(&row(&one, 0, 3), &values(&solo), 1e-5, "solo");
}

#[test]
fn many_forks_run_as_rows_of_one_batch() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    trace.get("layers.0.output").unwrap();
    let fork = trace.fork_rows(3).unwrap();
    for r in 0..3 {
        fork.intervene("layers.1.mlp", Intervention::scale(r as f64).rows([r])).unwrap();
    }
    let together = fork.output().unwrap();
    assert_eq!(together.dim(0), 3);
    for r in 0..3 {
        let options = TraceOptions::default().with("layers.1.mlp", Intervention::scale(r as f64));
        let alone = model.trace_with(ids(), &options).unwrap().output().unwrap();
        assert_close(&row(&together, r as usize, IDS.len()), &values(&alone), 1e-5, "row");
    }
}

#[test]
fn strict_refuses_writes_without_effect() {
    let model = model();
    let strict = TraceOptions { strict: true, ..TraceOptions::default() };
    let trace = model.trace_with(ids(), &strict.clone().with("layers.0.mlp", Intervention::scale(1.0))).unwrap();
    assert_eq!(trace.finish().unwrap_err().kind(), ErrorKind::Strict);
    let trace = model.trace_with(ids(), &strict.clone().with("layers.1.mlp", Intervention::zero_out())).unwrap();
    trace.get("layers.0.output").unwrap();
    let error = trace.finish().unwrap_err();
    assert!(error.message().contains("reached nothing"), "{error}");
    let trace = model.trace_with(ids(), &strict.with("layers.1.mlp", Intervention::zero_out())).unwrap();
    trace.output().unwrap();
    trace.finish().unwrap();
}

#[test]
fn a_hook_that_fails_leaves_the_model_usable() {
    let model = model();
    let fail = Intervention::custom("fail", |_, _| Err(mlxterp::Error::new(ErrorKind::Callback, "no")));
    let error = model.trace_with(ids(), &TraceOptions::default().with("layers.1.mlp", fail)).err().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Callback, "no"));
    model.forward(ids()).unwrap().eval().unwrap();
}

#[test]
fn several_threads_give_what_one_gives() {
    let model = model();
    let rows: Vec<Vec<u32>> = (0..8).map(|i| (0..6).map(|p| (i * 7 + p * 5) % 60).collect()).collect();
    let run = |model: &Model, row: &Vec<u32>| {
        let options = TraceOptions::default().with("layers.1.attn", Intervention::noise(0.1, 3));
        bits(&model.trace_with(row.clone(), &options).unwrap().output().unwrap())
    };
    let alone: Vec<_> = rows.iter().map(|r| run(&model, r)).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = rows.iter().map(|r| scope.spawn(|| run(&model, r))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(alone == together);
}

#[test]
fn plan_says_what_a_run_will_give_without_computing() {
    let model = model();
    let plan = model.plan(ids()).unwrap();
    assert_eq!(plan.len(), model.program().hooks.len());
    let trace = model.trace(ids()).unwrap();
    for site in plan {
        let value = trace.get(&site.name).unwrap();
        assert_eq!((value.dims(), value.dtype().name()), (site.shape, site.dtype), "{}", site.name);
    }
}

#[test]
fn bad_tokens_are_refused() {
    let model = model();
    let cases: [(Vec<Vec<u32>>, &str); 4] = [
        (vec![], "empty batch"),
        (vec![vec![1], vec![]], "prompt 1 is empty"),
        (vec![vec![1, 64]], "token id 64 at position 1"),
        (vec![vec![1; 100_000]], "context"),
    ];
    for (rows, text) in cases {
        let error = model.trace(rows).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(text), "{error}");
    }
}

#[test]
fn interventions_survive_json() {
    let vector = Array::from_slice(&[0.1f32, -2.5e-8, 3.0], &[3]).unwrap();
    let all = [
        Intervention::zero_out().rows([0, -1]),
        Intervention::scale(0.5).positions([-1]),
        Intervention::add_vector(vector.clone(), 2.0).heads([1]),
        Intervention::replace_with(vector).neurons([0]),
        Intervention::clamp(Some(-1.0), None),
        Intervention::noise(0.1, u64::MAX).positions_by_row(vec![vec![0], vec![1, 2]]),
    ];
    let composed = Intervention::compose(all.to_vec());
    for i in all.iter().chain([&composed]) {
        let text = i.to_json().unwrap();
        assert_eq!(&Intervention::from_json(&text).unwrap(), i, "{text}");
        assert!(!i.to_string().is_empty());
    }
    for bad in
        [r#"{"kind":"scale"}"#, r#"{"kind":"scale","factor":1,"position":[1]}"#, r#"{"kind":"nothing"}"#, "{", "[]"]
    {
        assert_eq!(Intervention::from_json(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
    let custom = Intervention::custom("f", |_, _| Ok(None));
    assert_eq!(custom.to_json().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_panic_in_a_hook_poisons_the_trace_and_nothing_else() {
    let model = model();
    let trace = model.trace(ids()).unwrap();
    let panic = Intervention::custom("panic", |_, _| panic!("a bug in a hook"));
    let attempt = std::panic::AssertUnwindSafe(|| trace.intervene("layers.0.mlp", panic));
    assert!(std::panic::catch_unwind(attempt).is_err());
    assert_eq!(trace.output().unwrap_err().kind(), ErrorKind::Panic);
    model.trace(ids()).unwrap().output().unwrap().eval().unwrap();
}
