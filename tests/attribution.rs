//! Gradients against PyTorch's autograd on the same weights; integrated gradients and attribution patching against that
//! and against differences of the metric itself.

mod support;

use mlxterp::ErrorKind;
use mlxterp::analysis::attribution::{
    AttributionPatchingOptions, Baseline, Component, IntegratedGradientsOptions, attribution_patching,
    integrated_gradients,
};
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model, Prompts};
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::TraceOptions;
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Metric;
use serde_json::{Value, json};
use support::*;

fn facts() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("gradients/expected.json")).unwrap()).unwrap()
}

fn metric_of(facts: &Value) -> Metric {
    let token = |name: &str| facts[name].as_u64().unwrap() as u32;
    Metric::logit_difference(token("answer"), token("wrong"))
}

/// Every site that PyTorch differentiated, by this library.
fn compare_with_autograd(model: &Model, bound: f32) {
    let (facts, expected) = (facts(), Expected::read(&fixture("gradients/expected.safetensors")));
    let prompt = facts["prompt"].as_str().unwrap();
    let sites: Vec<&str> = expected.names().filter(|n| *n != "integrated").collect();
    let metric = metric_of(&facts).prepare(model, 1).unwrap();
    let found = model.trace(prompt).unwrap().gradients(&sites, |t| metric.of_trace(t)).unwrap();
    let value = found.metric.item().unwrap();
    assert!((value - facts["metric"].as_f64().unwrap()).abs() < 1e-3, "{value}");
    for (site, gradient) in sites.iter().zip(&found.gradients) {
        let own = values(gradient);
        let kept: Vec<f32> = own.iter().step_by(3).copied().collect();
        assert_close(&kept, expected.get(site), bound, site);
        let norm = own.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let wanted = facts["norms"][site].as_f64().unwrap();
        assert!((norm / wanted - 1.0).abs() < f64::from(bound), "{site}: norm {norm}, expected {wanted}");
    }
    assert!(sites.len() > 10);
}

#[test]
fn gradients_equal_autograds() {
    compare_with_autograd(&smollm2(), 1e-4);
}

#[test]
fn gradients_through_packed_weights_equal_autograds() {
    let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let model = load(&smollm2_path(), &options);
    assert!(model.info().modules.iter().any(|m| m.held_as.as_deref().is_some_and(|h| h.contains("4-bit"))));
    compare_with_autograd(&model, 1e-4);
}

#[test]
fn integrated_gradients_equal_autograds() {
    let (facts, expected) = (facts(), Expected::read(&fixture("gradients/expected.safetensors")));
    let model = smollm2();
    let steps = facts["integrated"]["steps"].as_u64().unwrap() as usize;
    let options = IntegratedGradientsOptions { steps, chunk: 8, ..Default::default() };
    let mut told = Vec::new();
    let mut progress = |done: u64, total: u64| {
        told.push((done, total));
        true
    };
    let prompt = facts["prompt"].as_str().unwrap();
    let found = integrated_gradients(&model, prompt, &metric_of(&facts), &options, Some(&mut progress)).unwrap();
    assert_close(&found.attributions.values, expected.get("integrated"), 1e-3, "integrated gradients");
    assert_eq!(found.attributions.axes[0].labels[1], " capital");
    assert!((found.metric[0] - facts["integrated"]["metric"].as_f64().unwrap() as f32).abs() < 1e-3);
    assert!((found.baseline[0] - facts["integrated"]["at_zeros"].as_f64().unwrap() as f32).abs() < 1e-3);
    assert_eq!(told, [(8, 16), (16, 16)]);
}

#[test]
fn integrated_gradients_are_complete() {
    let model = tiny("llama");
    let metric = Metric::logit_difference(3u32, 7u32);
    let (one, other) = (vec![1u32, 5, 9, 2, 8, 30], vec![7u32, 5, 11, 2, 8, 3]);
    for (site, steps) in [("embed", 600), ("layers.0.output", 200), ("layers.1.attn.z", 60), ("layers.0.mlp.act", 60)] {
        let options = IntegratedGradientsOptions {
            site: site.to_owned(),
            baseline: Baseline::Prompts(other.clone().into()),
            steps,
            chunk: 100,
            ..Default::default()
        };
        let found = integrated_gradients(&model, one.clone(), &metric, &options, None).unwrap();
        let whole = found.metric[0] - found.baseline[0];
        assert!(whole.abs() > 1e-2, "{site}: nothing to attribute, {whole}");
        assert!(found.completeness_error[0].abs() < 5e-3 * whole.abs().max(1.0), "{site}: {found}");
        assert_eq!(found.values.shape()[0], 1);
        // Coarser steps are further off where the way is curved.
        let coarse = IntegratedGradientsOptions { steps: 1, ..options };
        let coarse = integrated_gradients(&model, one.clone(), &metric, &coarse, None).unwrap();
        assert!(coarse.completeness_error[0].abs() > found.completeness_error[0].abs(), "{site}");
    }
}

#[test]
fn rows_are_attributed_like_solo_runs() {
    let model = tiny("qwen2");
    let rows = vec![vec![1u32, 5, 9, 2, 8, 30], vec![4u32, 4, 7]];
    let metric = Metric::Logit { answer: 3u32.into() };
    let options = IntegratedGradientsOptions { steps: 6, chunk: 4, ..Default::default() };
    let both = integrated_gradients(&model, rows.clone(), &metric, &options, None).unwrap();
    for (i, row) in rows.iter().enumerate() {
        let solo = integrated_gradients(&model, row.clone(), &metric, &options, None).unwrap();
        assert!((solo.sum[0] - both.sum[i]).abs() < 1e-4);
        for (p, v) in solo.attributions.values.iter().enumerate() {
            assert!((v - both.attributions.at(&[i, p])).abs() < 1e-4, "row {i} position {p}");
        }
    }
    assert!((3..6).all(|p| both.attributions.at(&[1, p]) == 0.0), "padding gets nothing");
}

/// A component, a site of it, the row of its part in `scores`, and the selection that means this part.
type Part = (Component, &'static str, Vec<usize>, fn(Intervention) -> Intervention);

fn clean_and_corrupt() -> (Vec<u32>, Vec<u32>) {
    (vec![1, 5, 9, 2, 8, 30], vec![1, 5, 11, 2, 4, 30])
}

#[test]
fn attribution_patching_is_the_derivative_on_the_way_to_the_clean_value() {
    let model = tiny("llama");
    let (clean, corrupt) = clean_and_corrupt();
    let metric = Metric::logit_difference(3u32, 7u32);
    let found =
        attribution_patching(&model, clean.clone(), corrupt.clone(), &metric, &AttributionPatchingOptions::default())
            .unwrap();
    let prepared = metric.prepare(&model, 1).unwrap();
    let parts: [Part; 7] = [
        (Component::Residual, "layers.0.resid_pre", vec![0, 2], |i| i.positions([2])),
        (Component::Residual, "layers.1.resid_pre", vec![1, 5], |i| i.positions([5])),
        (Component::Attention, "layers.0.attn_add", vec![0, 4], |i| i.positions([4])),
        (Component::Mlp, "layers.0.mlp_add", vec![0, 2], |i| i.positions([2])),
        (Component::Head, "layers.0.attn.z", vec![0, 1, 4], |i| i.positions([4]).heads([1])),
        (Component::Head, "layers.1.attn.z", vec![1, 2, 5], |i| i.positions([5]).heads([2])),
        (Component::Neuron, "layers.0.mlp.act", vec![0, 4, 7], |i| i.positions([4]).neurons([7])),
    ];
    let mut largest = 0.0_f32;
    for (component, site, place, select) in parts {
        let scores = found.of(component).unwrap();
        let dims = scores.dims();
        assert_eq!(dims[0], 1);
        let flat = place.iter().zip(&dims[1..]).fold(0, |flat, (p, n)| flat * n + p);
        let estimate = values(scores)[flat];
        let way = tensor::sub(
            &model.trace(clean.clone()).unwrap().get(site).unwrap(),
            &model.trace(corrupt.clone()).unwrap().get(site).unwrap(),
        );
        let way = way.unwrap();
        let moved = |step: f64| {
            let trace = model.trace(corrupt.clone()).unwrap();
            trace.intervene(site, select(Intervention::add_vector(way.clone(), step))).unwrap();
            values(&prepared.of_trace(&trace).unwrap())[0]
        };
        let central = |step: f64| (moved(step) - moved(-step)) / (2.0 * step as f32);
        let slope = (4.0 * central(0.02) - central(0.04)) / 3.0;
        let scale = slope.abs().max(2e-2);
        assert!((estimate - slope).abs() / scale < 5e-3, "{site} {place:?}: {estimate}, slope {slope}");
        largest = largest.max(estimate.abs());
    }
    assert!(largest > 0.05, "estimates near zero prove nothing: {largest}");
}

#[test]
fn pairs_are_averaged() {
    let model = tiny("llama");
    let (clean, corrupt) = clean_and_corrupt();
    let metric = Metric::logit_difference(3u32, 7u32);
    let options = AttributionPatchingOptions { components: vec![Component::Head], ..Default::default() };
    let one = attribution_patching(&model, clean.clone(), corrupt.clone(), &metric, &options).unwrap();
    let back = attribution_patching(&model, corrupt.clone(), clean.clone(), &metric, &options).unwrap();
    let both = attribution_patching(
        &model,
        vec![clean.clone(), corrupt.clone()],
        vec![corrupt, clean],
        &metric,
        &options,
    );
    let both = both.unwrap();
    assert!((one.clean[0] - back.corrupt[0]).abs() < 1e-5 && (one.corrupt[0] - back.clean[0]).abs() < 1e-5);
    assert!(one.residual.is_none() && one.neurons.is_empty());
    let (a, b, m) = (one.heads.unwrap(), back.heads.unwrap(), both.heads.unwrap());
    for i in 0..m.values.len() {
        assert!((m.values[i] - (a.values[i] + b.values[i]) / 2.0).abs() < 1e-4);
    }
}

#[test]
fn interventions_are_part_of_every_run() {
    let model = tiny("llama");
    let (clean, corrupt) = clean_and_corrupt();
    let options = AttributionPatchingOptions {
        runs: TraceOptions::default().with("layers.0.attn", Intervention::zero_out()),
        ..Default::default()
    };
    let metric = Metric::logit_difference(3u32, 7u32);
    let found = attribution_patching(&model, clean, corrupt, &metric, &options).unwrap();
    let heads = found.heads.unwrap();
    assert!((0..heads.shape()[1]).all(|h| heads.at(&[0, h]) == 0.0) && heads.at(&[1, 0]) != 0.0);
}

#[test]
fn mistakes_are_told_and_leave_the_model_usable() {
    let model = tiny("llama");
    let metric = json!({"logit_difference": {"answer": 3, "wrong": 7}});
    let told = |name: &str, options: Value| run(&model, name, Call::new(options)).map(drop).unwrap_err();
    let pair = |clean: Value, corrupt: Value| json!({"clean": clean, "corrupt": corrupt, "metric": metric.clone()});
    let unequal = told("attribution_patching", pair(json!([1, 2, 3]), json!([1, 2])));
    assert!(unequal.message().contains("3 tokens clean and 2 corrupt"), "{unequal}");
    let partners = told("attribution_patching", pair(json!([[1, 2], [3, 4]]), json!([1, 2])));
    assert!(partners.message().contains("2 clean prompts and 1 corrupt"), "{partners}");
    let unknown = json!({"clean": [1], "corrupt": [2], "metric": metric.clone(), "components": ["heads"]});
    assert!(told("attribution_patching", unknown).message().contains("unknown variant `heads`"));
    assert!(told("attribution_patching", json!({"clean": [1], "corrupt": [2]})).message().contains("needs a metric"));
    let ig = |more: Value| {
        let mut options = json!({"prompts": [1, 2], "metric": metric.clone()});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        told("integrated_gradients", options)
    };
    assert!(ig(json!({"steps": 0})).message().contains("at least 1"));
    assert!(ig(json!({"stepz": 3})).message().contains("unknown field `stepz`"));
    assert_eq!(ig(json!({"site": "layers.7.output"})).kind(), ErrorKind::UnknownSite);
    assert!(ig(json!({"baseline": {"prompts": [[1, 2, 3]]}})).message().contains("same lengths"));
    let mut call = Call::new(json!({"prompts": [1, 2], "metric": metric}));
    call.arrays = vec![("baseline".to_owned(), Array::from_slice(&[0.0_f32; 3], &[3]).unwrap())];
    let shape = run(&model, "integrated_gradients", call).map(drop).unwrap_err();
    assert!(shape.kind() == ErrorKind::Shape && shape.message().contains("the baseline"), "{shape}");

    let options = AttributionPatchingOptions::default();
    let with = |metric: Metric| attribution_patching(&model, vec![1u32, 2], vec![3u32, 2], &metric, &options);
    let mine = with(Metric::custom(|_| Err(mlxterp::Error::new(ErrorKind::Callback, "mine")))).unwrap_err();
    assert_eq!((mine.kind(), mine.message()), (ErrorKind::Callback, "mine"));
    let nan = with(Metric::custom(|t| {
        let rows = t.batch()?.len();
        Array::from_slice(&vec![f32::NAN; rows], &[rows])
    }));
    assert!(nan.unwrap_err().message().contains("not a number"));
    let mut stop = |_: u64, _: u64| false;
    let logit = Metric::Logit { answer: 3u32.into() };
    let prompts = || Prompts::from(vec![1u32, 2]);
    let stopped = integrated_gradients(&model, prompts(), &logit, &Default::default(), Some(&mut stop)).unwrap_err();
    assert!(stopped.kind() == ErrorKind::Callback && stopped.message().contains("cancelled"), "{stopped}");
    assert!(integrated_gradients(&model, prompts(), &logit, &Default::default(), None).unwrap().sum[0].is_finite());
}

#[test]
fn a_kl_divergence_is_measured_from_the_clean_prediction() {
    let model = tiny("llama");
    let (clean, corrupt) = clean_and_corrupt();
    let found = attribution_patching(&model, clean, corrupt, &Metric::KlDivergence, &Default::default()).unwrap();
    assert!(found.clean[0].abs() < 1e-5 && found.corrupt[0] > 1e-3, "{found}");
    // The residual stream before the first layer as a whole: to first order, patching it undoes the divergence.
    assert!(found.residual.unwrap().values[..6].iter().sum::<f32>() < 0.0);
}

#[test]
fn both_tools_draw_themselves() {
    let model = tiny("llama");
    let metric = json!({"logit_difference": {"answer": 3, "wrong": 7}});
    let options = json!({"clean": [1, 5, 9], "corrupt": [1, 4, 9], "metric": metric.clone(), "neurons": 3});
    let found = run(&model, "attribution_patching", Call::new(options)).unwrap();
    assert!(found.figure().contains("Heads, all positions") && found.to_string().contains("logit difference: clean"));
    assert_eq!(found.json().unwrap()["neurons"].as_array().unwrap().len(), 3);
    assert_eq!(found.arrays().unwrap().len(), 5);
    let found = run(&model, "integrated_gradients", Call::new(json!({"prompts": [[1, 2], [3, 4]], "metric": metric})));
    let found = found.unwrap();
    assert!(found.figure().contains("Integrated gradients") && found.to_string().contains("add up to"));
    assert_eq!(found.json().unwrap()["attributions"]["axes"][0]["name"], "prompt");
}
