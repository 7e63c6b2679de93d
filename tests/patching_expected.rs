//! Patching, causal tracing and path patching against PyTorch: transformers with hooks, one forward a cell
//! (tests/fixtures/patching/make_expected.py).

mod support;

use mlxterp::analysis::patching::{
    Between, CausalTracingOptions, Component, Direction, PatchingAxis as Axis, PatchingOptions, PathPatchingOptions,
    Receiver, ReceiverInput, Senders, Subject, activation_patching, causal_tracing_told, path_patching,
};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::Array;
use mlxterp::utils::Metric;
use serde_json::Value;

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(support::fixture("patching/expected.json")).unwrap()).unwrap()
}

fn noise(name: &str) -> Array {
    let bytes = std::fs::read(support::fixture("patching/noise.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = all.tensor(name).unwrap();
    Array::from_bytes(tensor.data(), tensor.shape(), mlxterp::core::tensor::Dtype::Float32).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn metric(about: &Value) -> Metric {
    let id = |name: &str| about[name].as_u64().unwrap() as u32;
    Metric::logit_difference(id("answer"), id("wrong"))
}

/// Compares with numbers of float32 runs: relative to the size of logits, which are sums of `size`.
fn same(found: &[f32], wanted: &Value, tolerance: f32, what: &str) {
    let wanted: Vec<f32> = wanted.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    assert_eq!(found.len(), wanted.len(), "{what}");
    let spread = wanted.iter().fold(0.0_f32, |m, v| m.max((v - wanted[0]).abs()));
    assert!(spread > 10.0 * tolerance, "{what}: expectations that are all alike could not fail");
    let worst = found.iter().zip(&wanted).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst < tolerance, "{what}: off by {worst}\n{found:?}\n{wanted:?}");
}

fn component(name: &str) -> Component {
    serde_json::from_value(name.into()).unwrap()
}

#[test]
fn every_component_of_the_tiny_llama() {
    let (model, all) = (support::tiny("llama"), expected());
    let about = &all["tiny"];
    let (clean, corrupt) = (ids(&about["clean_ids"]), ids(&about["corrupt_ids"]));
    for (name, wanted) in about["grids"].as_object().unwrap() {
        let component = component(name);
        let mut options = PatchingOptions::of(component);
        if component.has_heads() {
            options = options.over([Axis::Layer, Axis::Head, Axis::Position]);
        } else if component == Component::Neuron {
            options = options.over([Axis::Layer, Axis::Neuron, Axis::Position]);
            options.neurons = Some(vec![0, 5, -1]);
        }
        let found = activation_patching(&model, clean.clone(), corrupt.clone(), metric(about), &options).unwrap();
        same(&found.raw.values, wanted, 2e-5, name);
        assert!((f64::from(found.clean) - about["clean"].as_f64().unwrap()).abs() < 2e-5);
        assert!((f64::from(found.corrupt) - about["corrupt"].as_f64().unwrap()).abs() < 2e-5);
    }
    let options = PatchingOptions { direction: Direction::Noising, ..PatchingOptions::of(Component::Z) };
    let found = activation_patching(&model, clean, corrupt, metric(about), &options).unwrap();
    same(&found.raw.values, &about["noising z"], 2e-5, "noising");
}

/// Probabilities, of runs whose logits float32 keeps to `tolerance`.
fn traced(model: &Model, about: &Value, noise: &Array, options: &CausalTracingOptions, wanted: &Value, tolerance: f32) {
    let options = CausalTracingOptions {
        subject: Subject::Positions(ids(&about["subject"]).into_iter().map(i64::from).collect()),
        ..options.clone()
    };
    let found = causal_tracing_told(model, ids(&about["clean_ids"]), &options, Some(noise), &mut None).unwrap();
    let what = format!("{} {}", found.component, found.window);
    same(&found.restored.values, &wanted["restored"], tolerance, &what);
    for (number, name) in [(found.clean, "clean"), (found.corrupt, "corrupt")] {
        assert!(
            (f64::from(number) - wanted[name].as_f64().unwrap()).abs() < f64::from(tolerance),
            "{what}: {name} {number}"
        );
    }
}

#[test]
fn causal_traces_under_given_noise() {
    let (model, all) = (support::tiny("llama"), expected());
    for (name, wanted) in all["tiny"]["traces"].as_object().unwrap() {
        let (part, window) = name.split_once(' ').unwrap();
        let options = CausalTracingOptions {
            component: component(part),
            window: Some(window.parse().unwrap()),
            answer: Some(3.into()),
            ..CausalTracingOptions::default()
        };
        traced(&model, &all["tiny"], &noise("tiny"), &options, wanted, 2e-6);
    }
}

fn receiver(name: &str) -> Receiver {
    match name {
        "q" => Receiver::head(ReceiverInput::Q, 1, 2),
        "k" => Receiver::head(ReceiverInput::K, -1, 0),
        "v" => Receiver::head(ReceiverInput::V, 1, -1),
        "mlp" => Receiver::mlp(1),
        _ => Receiver::logits(),
    }
}

#[test]
fn paths_of_every_kind() {
    let (model, all) = (support::tiny("llama"), expected());
    let about = &all["tiny"];
    for (name, wanted) in about["paths"].as_object().unwrap() {
        let (what, mlps) = name.split_once(", ").unwrap();
        let (senders, receivers) = what.split_once(" to ").unwrap();
        let options = PathPatchingOptions {
            senders: if senders == "mlp" { Senders::Mlp } else { Senders::Heads },
            receivers: receivers.split(' ').map(receiver).collect(),
            mlps: if mlps == "frozen" { Between::Frozen } else { Between::Recomputed },
            ..PathPatchingOptions::default()
        };
        let (clean, corrupt) = (ids(&about["clean_ids"]), ids(&about["corrupt_ids"]));
        let found = path_patching(&model, clean, corrupt, metric(about), &options).unwrap();
        same(&found.raw.values, wanted, 2e-5, name);
        // The last layer's senders are heard by no receiver in it that comes before them.
        if receivers != "logits" && senders == "mlp" {
            assert_eq!(found.normalised.values[1], 1.0, "{name}");
        }
    }
}

#[test]
fn smollm2() {
    let (model, all) = (support::smollm2(), expected());
    let about = &all["smollm2"];
    let text = |i: usize| about["texts"][i].as_str().unwrap();
    assert_eq!(model.batch(text(0)).unwrap().rows()[0], ids(&about["clean_ids"]));
    // Logits of SmolLM2 are around 20, of which float32 keeps 2e-6.
    let grid = |options: &PatchingOptions| {
        activation_patching(&model, text(0), text(1), Metric::logit_difference(" Paris", " Rome"), options).unwrap()
    };
    let found = grid(&PatchingOptions::default());
    same(&found.raw.values, &about["resid_pre"], 2e-4, "resid_pre");
    let heads = PatchingOptions { layers: Some(vec![10, 25]), ..PatchingOptions::of(Component::Z) };
    same(&grid(&heads).raw.values, &about["z"], 2e-4, "z");
    let options = CausalTracingOptions {
        component: Component::Mlp,
        layers: Some(vec![0, 4, 12, 28]),
        answer: Some(" Paris".into()),
        ..CausalTracingOptions::default()
    };
    traced(&model, about, &noise("smollm2"), &options, &about["trace"], 1e-4);
    let paths = |options: &PathPatchingOptions| {
        path_patching(&model, text(0), text(1), Metric::logit_difference(" Paris", " Rome"), options).unwrap()
    };
    let to_logits = PathPatchingOptions { layers: Some(vec![27, 29]), ..PathPatchingOptions::default() };
    same(&paths(&to_logits).raw.values, &about["paths"], 2e-4, "paths");
    let to_queries = PathPatchingOptions {
        layers: Some(vec![24]),
        receivers: vec![Receiver::head(ReceiverInput::Q, 26, 3), Receiver::head(ReceiverInput::Q, 25, 0)],
        mlps: Between::Recomputed,
        ..PathPatchingOptions::default()
    };
    same(&paths(&to_queries).raw.values, &about["paths to q"], 2e-4, "paths to q");
}
