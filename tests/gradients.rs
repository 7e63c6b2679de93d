//! Gradients at sites: against differences of the metric itself, for single rows, padded batches, packed weights, edits.

mod support;

use mlxterp::ErrorKind;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::{Trace, TraceOptions};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Metric;
use serde_json::json;

fn tiny(name: &str) -> Model {
    Model::load(&format!("tests/fixtures/tiny/{name}")).unwrap()
}

/// The metric of a trace in which `direction` times `step` was added at a site.
fn moved(
    start: &dyn Fn() -> Trace,
    site: &str,
    direction: &Array,
    step: f64,
    metric: &dyn Fn(&Trace) -> Array,
) -> Vec<f32> {
    let trace = start();
    trace.intervene(site, Intervention::add_vector(direction.clone(), step)).unwrap();
    metric(&trace).to_vec::<f32>().unwrap()
}

/// Compares the gradient along a random direction with differences of the metric, row by row.
fn check(start: &dyn Fn() -> Trace, site: &str, step: f64, tolerance: f32) {
    let model = start().model();
    let rows = start().batch().unwrap().len();
    let metric = Metric::logit_difference(3u32, 7u32).prepare(&model, rows).unwrap();
    let of = |t: &Trace| metric.of_trace(t).unwrap();
    let found = start().gradients(&[site], |t| metric.of_trace(t)).unwrap();
    let gradient = &found.gradients[0];
    assert_eq!(gradient.shape(), found.values[0].shape());
    let direction = tensor::random_normal(gradient.shape(), Dtype::Float32, 11).unwrap();
    // Relative to the size of what is moved.
    let size = tensor::norm_all(&found.values[0]).unwrap().item().unwrap() / (gradient.size() as f64).sqrt();
    let step = step * size;
    let mut along = tensor::mul(gradient, &direction).unwrap();
    while along.ndim() > 1 {
        along = tensor::sum(&along, -1, false).unwrap();
    }
    let along = along.to_vec::<f32>().unwrap();
    let central = |step: f64| -> Vec<f32> {
        let (up, down) = (moved(start, site, &direction, step, &of), moved(start, site, &direction, -step, &of));
        up.iter().zip(down).map(|(u, d)| (u - d) / (2.0 * step as f32)).collect()
    };
    // Richardson: two central differences cancel each other's error of third order.
    let (near, far) = (central(step), central(2.0 * step));
    for row in 0..rows {
        let difference = (4.0 * near[row] - far[row]) / 3.0;
        let scale = along[row].abs().max(difference.abs()).max(1e-2);
        assert!(
            (along[row] - difference).abs() / scale < tolerance,
            "{site} row {row}: gradient {} difference {difference}",
            along[row]
        );
    }
}

const SITES: [&str; 7] = [
    "embed",
    "layers.0.output",
    "layers.1.resid_mid",
    "layers.0.attn.z",
    "layers.1.attn.q",
    "layers.0.mlp.act",
    "layers.1.attn",
];

#[test]
fn gradients_are_differences() {
    let model = tiny("llama");
    let start = || model.trace(vec![1u32, 5, 9, 2, 8, 30]).unwrap();
    for site in SITES.into_iter().chain(["layers.0.attn.pattern", "layers.1.attn.v"]) {
        check(&start, site, 5e-3, 3e-3);
    }
}

#[test]
fn rows_of_a_padded_batch_have_their_own_gradients() {
    let model = tiny("qwen2");
    let rows = vec![vec![1u32, 5, 9, 2, 8, 30], vec![4u32, 4, 7]];
    let start = || model.trace(rows.clone()).unwrap();
    check(&start, "layers.0.output", 5e-3, 3e-3);
    let metric = Metric::logit_difference(3u32, 7u32);
    let both = start().gradients(&["layers.0.output"], |t| metric.prepare(&model, 2)?.of_trace(t)).unwrap();
    let solo = model.trace(rows[1].clone()).unwrap();
    let solo = solo.gradients(&["layers.0.output"], |t| metric.prepare(&model, 1)?.of_trace(t)).unwrap();
    let width = solo.gradients[0].dim(2);
    let both = both.gradients[0].to_vec::<f32>().unwrap();
    let solo = solo.gradients[0].to_vec::<f32>().unwrap();
    for (a, b) in both[6 * width..9 * width].iter().zip(&solo) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert!(both[9 * width..].iter().all(|g| *g == 0.0), "padding has no gradient");
}

#[test]
fn packed_weights_are_constants_that_gradients_pass() {
    let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let model = Model::load_with("tests/fixtures/tiny/llama_4bit_g64", &options, None).unwrap();
    let start = || model.trace(vec![1u32, 5, 9, 2]).unwrap();
    for site in ["layers.0.output", "layers.0.mlp.act", "layers.1.attn.z"] {
        check(&start, site, 5e-3, 3e-3);
    }
}

#[test]
fn gradients_see_the_traces_edits_and_the_metrics_own() {
    let model = tiny("llama");
    let options = TraceOptions::default().with("layers.0.mlp", Intervention::scale(0.25));
    let edited = || model.trace_with(vec![1u32, 5, 9, 2], &options).unwrap();
    check(&edited, "layers.0.mlp.act", 5e-3, 3e-3);
    // Zeroed by the metric itself: nothing that only goes through there matters any more.
    let metric = Metric::logit_difference(3u32, 7u32).prepare(&model, 1).unwrap();
    let found = edited().gradients(&["layers.0.mlp.act"], |t| {
        t.intervene("layers.0.mlp", Intervention::zero_out())?;
        metric.of_trace(t)
    });
    let gradient = found.unwrap().gradients.remove(0);
    assert_eq!(tensor::norm_all(&gradient).unwrap().item().unwrap(), 0.0);
}

#[test]
fn many_sites_at_once_are_each_total_gradients() {
    let model = tiny("llama");
    let trace = model.trace(vec![1u32, 5, 9, 2]).unwrap();
    let metric = Metric::logit_difference(3u32, 7u32).prepare(&model, 1).unwrap();
    // Given against the order of execution.
    let names = ["layers.*.output", "embed"];
    let all = trace.gradients(&names, |t| metric.of_trace(t)).unwrap();
    assert_eq!(all.sites, ["layers.0.output", "layers.1.output", "embed.output"]);
    for (site, gradient) in all.sites.iter().zip(&all.gradients) {
        let alone = trace.gradients(&[site], |t| metric.of_trace(t)).unwrap();
        let apart = tensor::norm_all(&tensor::sub(gradient, &alone.gradients[0]).unwrap()).unwrap().item().unwrap();
        assert!(apart < 1e-6, "{site}: {apart}");
    }
    // The trace they were taken of can still be written.
    trace.set("embed", &tensor::zeros_like(&all.values[2]).unwrap()).unwrap();
}

#[test]
fn last_logits_are_the_logits_after_each_rows_last_token() {
    for name in ["llama", "qwen2", "llama_4bit_g64"] {
        let model = tiny(name);
        let trace = model.trace(vec![vec![1u32, 5, 9, 2], vec![3, 4]]).unwrap();
        let last = trace.last_logits().unwrap().to_vec::<f32>().unwrap();
        let all = trace.output().unwrap().to_vec::<f32>().unwrap();
        let v = model.vocab_size();
        let wanted = [&all[3 * v..4 * v], &all[5 * v..6 * v]].concat();
        let apart = last.iter().zip(&wanted).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn mistakes_are_told_and_leave_the_model_usable() {
    let model = tiny("llama");
    let trace = model.trace(vec![1u32, 5, 9]).unwrap();
    let fails = |sites: &[&str], f: &dyn Fn(&Trace) -> mlxterp::Result<Array>| trace.gradients(sites, f).unwrap_err();
    let fine = |t: &Trace| Metric::logit_difference(3u32, 7u32).prepare(&t.model(), 1)?.of_trace(t);
    assert!(fails(&[], &fine).message().contains("at no sites"));
    assert_eq!(fails(&["layers.9.output"], &fine).kind(), ErrorKind::UnknownSite);
    let shape = fails(&["embed"], &|t| t.output());
    assert!(shape.kind() == ErrorKind::Shape && shape.message().contains("the metric"), "{shape}");
    let own = fails(&["embed"], &|_| Err(mlxterp::Error::new(ErrorKind::Callback, "mine")));
    assert_eq!((own.kind(), own.message()), (ErrorKind::Callback, "mine"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = trace.gradients(&["embed"], |_| panic!("out of the metric"));
    }));
    assert!(panicked.is_err());
    assert!(trace.gradients(&["embed"], fine).unwrap().metric.item().unwrap().is_finite());
}

#[test]
fn the_tool_says_what_it_was_not_given() {
    let model = tiny("llama");
    let told = |name: &str, options| run(&model, name, Call::new(options)).map(drop).unwrap_err().message().to_owned();
    assert!(told("gradient", json!({})).contains("did you mean 'gradients'"));
    assert!(told("gradients", json!({"prompts": [1, 2]})).contains("missing field `sites`"));
    assert!(told("gradients", json!({"prompts": {}, "sites": []})).contains("prompts are a text"));
    let wrong = json!({"prompts": [1, 2], "sites": ["embed"], "metrik": 1});
    assert!(told("gradients", wrong).contains("unknown field `metrik`"));
    assert!(told("gradients", json!({"prompts": [1, 2], "sites": ["embed"]})).contains("needs a metric"));
    let metric = json!({"logit_difference": {"answer": 3, "wrong": 7}});
    let found = run(&model, "gradients", Call::new(json!({"prompts": [1, 2], "sites": ["embed"], "metric": metric})));
    let found = found.unwrap();
    assert!(found.figure().contains("embed") && found.to_string().contains("embed"));
    assert_eq!(found.arrays().unwrap()[1].1.shape(), [1, 2, model.hidden_size() as i32]);
}
