//! Steering: directions and what they do, against transformers, numpy and scikit-learn; files against repeng's layout;
//! projections by hand; every kind of mistake.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use mlxterp::ErrorKind;
use mlxterp::core::intervention::{Intervention, Positions};
use mlxterp::core::model::{LoadOptions, Model, Prompts};
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::steering::{
    Action, Contrast, Direction, Method, Normalise, Steer, SteeringVectors, steering_vectors,
};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Position;
use serde_json::{Value, json};
use support::*;

fn texts() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("steering/texts.json")).unwrap()).unwrap()
}

fn prompts(texts: &Value, key: &str) -> Prompts {
    let list = texts[key].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned());
    Prompts::Text(list.collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

fn found(
    model: &Model,
    positive: impl Into<Prompts>,
    negative: impl Into<Prompts>,
    contrast: &Contrast,
) -> SteeringVectors {
    steering_vectors(model, positive, negative, contrast, &TraceOptions::default(), &mut None).unwrap()
}

/// A tiny model of random weights; token ids below 64.
fn small() -> Model {
    tiny("llama")
}

fn ids(rows: &[&[u32]]) -> Prompts {
    Prompts::Tokens(rows.iter().map(|r| r.to_vec()).collect())
}

#[test]
fn directions_are_those_of_transformers_numpy_and_scikit_learn() {
    let (model, texts) = (smollm2(), texts());
    let expected = Expected::read(&fixture("steering/expected.safetensors"));
    let layers = Some(vec![3, 12, -6]);
    for method in [Method::MeanDifference, Method::PcaDiff, Method::PcaCenter, Method::Logistic] {
        let contrast = Contrast { layers: layers.clone(), method, batch_size: 5, ..Contrast::default() };
        let vectors = found(&model, prompts(&texts, "positive"), prompts(&texts, "negative"), &contrast);
        assert_eq!(vectors.layers.keys().copied().collect::<Vec<_>>(), [3, 12, 24]);
        for (layer, d) in &vectors.layers {
            let wanted = expected.get(&format!("{}.{layer}", method.name()));
            let what = format!("{} of layer {layer}", method.name());
            // The states themselves differ by 1e-5 between the libraries; solutions of equations by more.
            let bound = if method == Method::MeanDifference { 2e-4 } else { 5e-3 };
            assert_close(&d.vector, wanted, bound, &what);
            assert!(cosine(&d.vector, wanted) > 0.99999, "{what}");
            assert_close(&[d.state_norm.unwrap()], expected.get(&format!("state_norm.{layer}")), 1e-4, &what);
            // The differences about their mean need not point where they all point.
            assert!(
                method == Method::PcaDiff || d.separation.unwrap() > 0.9,
                "{what} separates {}",
                d.separation.unwrap()
            );
        }
    }
    let contrast = Contrast { layers, position: Position::Mean, ..Contrast::default() };
    let vectors = found(&model, prompts(&texts, "positive"), prompts(&texts, "negative"), &contrast);
    for (layer, d) in &vectors.layers {
        assert_close(&d.vector, expected.get(&format!("mean_difference.mean.{layer}")), 2e-4, "over positions");
    }
    let pair = texts["pair"].as_array().unwrap();
    let contrast = Contrast { layers: Some(vec![12]), position: Position::Answer, ..Contrast::default() };
    let vectors = found(&model, pair[0].as_str().unwrap(), pair[1].as_str().unwrap(), &contrast);
    assert_close(&vectors.layers[&12].vector, expected.get("answer.12"), 2e-4, "at the answer");
}

#[test]
fn what_directions_do_is_what_transformers_computes() {
    let (model, texts) = (smollm2(), texts());
    let expected = Expected::read(&fixture("steering/expected.safetensors"));
    let direction =
        Direction { vector: expected.get("mean_difference.12").to_vec(), state_norm: Some(2.0), separation: None };
    let vectors = SteeringVectors {
        method: String::new(),
        site: "output".into(),
        position: String::new(),
        model: String::new(),
        model_type: String::new(),
        layers: BTreeMap::from([(12, direction)]),
    };
    let logits = |how: Option<Action>| {
        let mut options = TraceOptions::default();
        if let Some(action) = how {
            options.interventions = vectors.interventions(&Steer { action, ..Steer::default() }).unwrap();
        }
        let all = model.trace_with(texts["prompt"].as_str().unwrap(), &options).unwrap().last_logits().unwrap();
        values(&all)
    };
    let strength = texts["strength"].as_f64().unwrap();
    let plain = logits(None);
    for (name, action) in [
        ("plain", None),
        ("add", Some(Action::Add { strength })),
        ("project_out", Some(Action::ProjectOut)),
        ("set_component", Some(Action::SetComponent { value: 3.0 })),
    ] {
        let own: Vec<f32> = logits(action).into_iter().step_by(16).collect();
        assert_close(&own, expected.get(&format!("logits.{name}")), 1e-4, name);
    }
    let none: Vec<u32> = logits(Some(Action::Add { strength: 0.0 })).iter().map(|v| v.to_bits()).collect();
    assert_eq!(none, plain.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), "strength 0 leaves every bit");
}

/// Contrastive activation addition: what was planted in the contrast comes out of the model.
#[test]
fn a_planted_contrast_moves_the_logits_its_way() {
    let (model, texts) = (smollm2(), texts());
    let vectors = found(&model, prompts(&texts, "positive"), prompts(&texts, "negative"), &Contrast::default());
    let tokenizer = model.tokenizer().unwrap();
    let token = |text: &str| tokenizer.encode(text, false).unwrap()[0] as usize;
    let (good, bad) = (token(" great"), token(" terrible"));
    let prompt = texts["prompt"].as_str().unwrap();
    let preference = |layers: Vec<usize>, strength: f64, positions: Option<Positions>| {
        let steer = Steer { action: Action::Add { strength }, layers: Some(layers), positions, ..Steer::default() };
        let options = TraceOptions { interventions: vectors.interventions(&steer).unwrap(), ..TraceOptions::default() };
        let logits = values(&model.trace_with(prompt, &options).unwrap().last_logits().unwrap());
        logits[good] - logits[bad]
    };
    for layer in [10, 14, 18] {
        let (down, plain, up) = (
            preference(vec![layer], -1.5, None),
            preference(vec![layer], 0.0, None),
            preference(vec![layer], 1.5, None),
        );
        assert!(up > plain + 0.5 && plain > down + 0.5, "layer {layer}: {down} {plain} {up}");
    }
    let last = preference(vec![14], 1.5, Some(Positions::Same(vec![-1])));
    assert!(last > preference(vec![14], 0.0, None) && last != preference(vec![14], 1.5, None));
}

#[test]
fn a_component_is_taken_out_or_set_and_nothing_else_moves() {
    let model = small();
    let rows = vec![vec![1u32, 5, 9, 2], vec![3, 4]];
    let width = model.hidden_size();
    let direction: Vec<f32> = (0..width).map(|i| ((i * 7 % 11) as f32 - 4.0) * 1e-3).collect();
    let array = Array::from_slice(&direction, &[width]).unwrap();
    let norm = direction.iter().map(|v| v * v).sum::<f32>().sqrt();
    let unit: Vec<f32> = direction.iter().map(|v| v / norm).collect();
    let site = "layers.0.output";
    let plain = model.trace(rows.clone()).unwrap().get(site).unwrap();
    let changed = |i: Intervention| {
        let options = TraceOptions::default().with(site, i);
        model.trace_with(rows.clone(), &options).unwrap().get(site).unwrap()
    };
    let along = |x: &[f32]| x.iter().zip(&unit).map(|(a, b)| a * b).sum::<f32>();
    for (i, wanted) in
        [(Intervention::project_out(array.clone()), 0.0), (Intervention::set_component(array.clone(), -2.5), -2.5)]
    {
        let (old, new) = (values(&plain), values(&changed(i)));
        for (x, y) in old.chunks(width).zip(new.chunks(width)) {
            assert!((along(y) - wanted).abs() < 1e-5, "{} is not {wanted}", along(y));
            let by_hand = x.iter().zip(&unit).map(|(a, u)| a + (wanted - along(x)) * u);
            assert!(y.iter().zip(by_hand).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
    // Only where a selector points.
    let last = values(&changed(Intervention::project_out(array.clone()).positions([-1])));
    for (p, (x, y)) in values(&plain).chunks(width).zip(last.chunks(width)).enumerate() {
        let selected = [3, 5].contains(&p);
        assert_eq!(x != y, selected, "position {p}");
    }
    // A direction a head, in half precision, of a length that float32 could not square.
    let options = LoadOptions { dtype: Some(Dtype::Bfloat16), ..LoadOptions::default() };
    let half = load(&fixture("tiny/llama"), &options);
    let z = half.trace(rows.clone()).unwrap().get("layers.0.attn.z").unwrap();
    let (heads, features) = (z.dim(1), z.dim(3));
    let per_head: Vec<f32> = (0..heads * features).map(|i| ((i % 5) as f32 - 1.5) * 1e30).collect();
    let per_head = Array::from_slice(&per_head, &[heads, 1, features]).unwrap();
    let options = TraceOptions::default().with("layers.0.attn.z", Intervention::project_out(per_head.clone()));
    let out = half.trace_with(rows, &options).unwrap().get("layers.0.attn.z").unwrap();
    assert_eq!(out.dtype(), Dtype::Bfloat16);
    let scaled = tensor::mul(&per_head, &Array::scalar(1e-30, Dtype::Float32).unwrap()).unwrap();
    let left = tensor::sum(&tensor::mul(&tensor::cast(&out, Dtype::Float32).unwrap(), &scaled).unwrap(), -1, false);
    let before = tensor::sum(&tensor::mul(&tensor::cast(&z, Dtype::Float32).unwrap(), &scaled).unwrap(), -1, false);
    let (left, before) = (tensor::norm_all(&left.unwrap()).unwrap(), tensor::norm_all(&before.unwrap()).unwrap());
    assert!(left.item().unwrap() < 0.02 * before.item().unwrap());
}

#[test]
fn projections_are_values_like_any_intervention() {
    let v = Array::from_slice(&[0.1f32, -2.5e-8, 3.0], &[3]).unwrap();
    let all = [
        Intervention::project_out(v.clone()).positions([-1]),
        Intervention::set_component(v.clone(), 0.25).rows([0]),
        Intervention::compose(vec![Intervention::project_out(v.clone()), Intervention::add_vector(v.clone(), 2.0)]),
    ];
    for i in &all {
        assert_eq!(&Intervention::from_json(&i.to_json().unwrap()).unwrap(), i);
    }
    assert_eq!(all[1].to_string(), "set_component(float32[3], 0.25) rows=[0]");
    assert_ne!(Intervention::set_component(v.clone(), 0.25), Intervention::set_component(v.clone(), 0.5));
    assert_ne!(Intervention::set_component(v.clone(), 0.0), Intervention::project_out(v));
    let zero = r#"{"kind":"project_out","direction":{"dtype":"float32","shape":[2],"data":[0,0]}}"#;
    assert!(Intervention::from_json(zero).unwrap_err().message().contains("points nowhere"));
    let key = r#"{"kind":"project_out","direction":{"dtype":"float32","shape":[1],"data":[1]},"value":1}"#;
    assert!(Intervention::from_json(key).unwrap_err().message().contains("unknown key 'value'"));
    let model = small();
    let fails = |i: Intervention, words: &str| {
        let e = model.trace_with(vec![1u32, 2], &TraceOptions::default().with("layers.0", i)).err().unwrap();
        assert!(e.message().contains(words) && e.message().contains("layers.0"), "{e}");
    };
    let array = |data: &[f32]| Array::from_slice(data, &[data.len()]).unwrap();
    fails(Intervention::project_out(array(&[1.0, 2.0])), "last axes must be equal");
    fails(Intervention::project_out(array(&[f32::NAN; 24])), "NaN");
    fails(Intervention::set_component(array(&[1.0; 24]), f64::INFINITY), "finite");
    assert!(model.trace(vec![1u32, 2]).unwrap().output().unwrap().eval().is_ok());
}

fn two_layers(width: usize) -> SteeringVectors {
    let one = |layer: usize| {
        let vector = (0..width).map(|i| (i as f32 + 1.0) * 0.37 - layer as f32).collect();
        (layer, Direction { vector, state_norm: Some(1.5 + layer as f32), separation: Some(0.75) })
    };
    SteeringVectors {
        method: "mean_difference".into(),
        site: "output".into(),
        position: "last".into(),
        model: "tiny".into(),
        model_type: "llama".into(),
        layers: [1, 0].map(one).into(),
    }
}

#[test]
fn files_keep_everything_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v.safetensors");
    let vectors = two_layers(24);
    vectors.save(&file).unwrap();
    assert_eq!(SteeringVectors::load(&file).unwrap(), vectors);
    // What llama.cpp has no word for is an error, not left out.
    let control = folder.path().join("v.gguf");
    assert!(vectors.save(&control).unwrap_err().message().contains("layer 0"));
    let elsewhere = SteeringVectors { site: "mlp".into(), ..vectors.clone() };
    assert!(elsewhere.save(&control).unwrap_err().message().contains("'mlp'"));
    let mut one = vectors;
    one.layers.remove(&0);
    one.save(&control).unwrap();
    let back = SteeringVectors::load(&control).unwrap();
    assert_eq!(back.layers[&1].vector, one.layers[&1].vector);
    assert_eq!((back.model_type.as_str(), back.site.as_str()), ("llama", "output"));
}

#[test]
fn repengs_own_file_is_read_and_written_again_to_the_byte() {
    let path = fixture("steering/control.gguf");
    let expected = Expected::read(&fixture("steering/expected.safetensors"));
    let vectors = SteeringVectors::load(&path).unwrap();
    assert_eq!(vectors.layers.keys().copied().collect::<Vec<_>>(), [3, 12, 24]);
    for (layer, d) in &vectors.layers {
        assert_eq!(d.vector, expected.get(&format!("pca_center.{layer}")));
    }
    vectors.check(&smollm2()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.gguf");
    vectors.save(&copy).unwrap();
    assert!(std::fs::read(path).unwrap() == std::fs::read(copy).unwrap());
}

#[track_caller]
fn refused(path: &Path, words: &str) {
    let error = SteeringVectors::load(path).unwrap_err();
    assert!(error.message().contains(words), "'{words}' is not in: {error}");
}

#[test]
fn files_that_are_no_vectors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    refused(&at("none.gguf"), "no file");
    refused(&at("v.npz"), ".safetensors or .gguf");
    refused(&smollm2_path(), "its architecture is \"llama\"");
    refused(&fixture("steering/expected.safetensors"), "no file of steering vectors");
    let good = std::fs::read(fixture("steering/control.gguf")).unwrap();
    std::fs::write(at("cut.gguf"), &good[..good.len() - 500]).unwrap();
    refused(&at("cut.gguf"), "is the download complete?");
    let renamed: Vec<u8> = String::from_utf8_lossy(b"direction.3").bytes().collect();
    let place = good.windows(renamed.len()).position(|w| w == renamed).unwrap();
    let mut zero = good.clone();
    zero[place + renamed.len() - 1] = b'0';
    std::fs::write(at("zero.gguf"), &zero).unwrap();
    refused(&at("zero.gguf"), "with N from 1");
    let mut nan = good;
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(at("nan.gguf"), &nan).unwrap();
    refused(&at("nan.gguf"), "NaN");
    // Whole files for another model.
    let model = small();
    let told = |call: Value| run(&model, "steering_vectors", Call::new(call)).map(drop).unwrap_err();
    let e = told(json!({"load": fixture("steering/control.gguf")}));
    assert!(e.kind() == ErrorKind::Shape && e.message().contains("width 576"), "{e}");
    let mut far = two_layers(24);
    far.layers.insert(7, far.layers[&1].clone());
    far.save(at("far.safetensors")).unwrap();
    assert!(told(json!({"load": at("far.safetensors")})).message().contains("layer 7"));
}

#[test]
fn lengths_are_as_asked_for() {
    let vectors = two_layers(24);
    let strength = |normalise, action| {
        let made = vectors.interventions(&Steer { normalise, action, ..Steer::default() }).unwrap();
        made.into_iter().map(|(site, i)| (site, i.to_json().unwrap())).collect::<Vec<_>>()
    };
    let add = Action::Add { strength: 2.0 };
    for (normalise, lengths) in [(Normalise::Unit, [2.0, 2.0]), (Normalise::State, [3.0, 5.0])] {
        for ((site, json), (layer, wanted)) in strength(normalise, add).iter().zip([0, 1].into_iter().zip(lengths)) {
            assert_eq!(site, &format!("layers.{layer}.output"));
            let i: Value = serde_json::from_str(json).unwrap();
            let data = i["vector"]["data"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap().powi(2));
            let length = data.sum::<f64>().sqrt() * i["strength"].as_f64().unwrap();
            assert!((length - wanted).abs() < 1e-5, "{length} is not {wanted}");
        }
    }
    let of = |steer: Steer| vectors.interventions(&steer).unwrap_err().message().to_owned();
    assert!(of(Steer { layers: Some(vec![5]), ..Steer::default() }).contains("no direction for layer 5"));
    assert!(of(Steer { layers: Some(vec![]), ..Steer::default() }).contains("no layers"));
    let mut unknown = vectors.clone();
    unknown.layers.get_mut(&0).unwrap().state_norm = None;
    let state = Steer { normalise: Normalise::State, ..Steer::default() };
    assert!(unknown.interventions(&state).unwrap_err().message().contains("layer 0"));
}

#[test]
fn the_same_whatever_the_batches() {
    let model = small();
    let (positive, negative): (&[&[u32]], &[&[u32]]) =
        (&[&[1, 5, 9], &[2, 8, 30, 7, 11], &[4]], &[&[3, 3], &[6, 1, 2, 9, 12, 4], &[9, 9, 9]]);
    for method in [Method::MeanDifference, Method::PcaDiff, Method::PcaCenter, Method::Logistic] {
        let of = |batch_size| {
            let contrast = Contrast { method, batch_size, ..Contrast::default() };
            found(&model, ids(positive), ids(negative), &contrast)
        };
        let (one, many) = (of(1), of(100));
        for (a, b) in one.layers.values().zip(many.layers.values()) {
            assert_close(&a.vector, &b.vector, 1e-4, method.name());
        }
    }
}

#[test]
fn mistakes_are_told() {
    let model = small();
    let wrong = |positive: &[&[u32]], negative: &[&[u32]], contrast: Contrast, words: &str| {
        let trace = TraceOptions::default();
        let e = steering_vectors(&model, ids(positive), ids(negative), &contrast, &trace, &mut None).unwrap_err();
        assert!(e.message().contains(words), "'{words}' is not in: {e}");
    };
    let usual = Contrast::default;
    let (a, b): (&[&[u32]], &[&[u32]]) = (&[&[1, 2], &[3, 4]], &[&[5, 6]]);
    wrong(&[], b, usual(), "no positive texts");
    wrong(a, &[], usual(), "no negative texts");
    wrong(a, &[&[]], usual(), "the negative texts");
    wrong(a, b, Contrast { method: Method::PcaCenter, ..usual() }, "2 positive and 1 negative");
    wrong(a, b, Contrast { position: Position::Answer, ..usual() }, "2 positive and 1 negative");
    wrong(b, b, Contrast { method: Method::PcaDiff, ..usual() }, "at least two pairs");
    wrong(b, b, usual(), "the same");
    wrong(b, b, Contrast { position: Position::Answer, ..usual() }, "pair 0");
    wrong(a, b, Contrast { layers: Some(vec![0, 9]), ..usual() }, "no layer 9");
    wrong(a, b, Contrast { site: "nothing".into(), ..usual() }, "no site 'layers.0.nothing'");
    wrong(a, b, Contrast { site: "attn.scores".into(), ..usual() }, "by position");
    wrong(a, b, Contrast { position: Position::At(-3), ..usual() }, "text 0 has no position -3");
    wrong(a, b, Contrast { batch_size: 0, ..usual() }, "batch_size");
    wrong(a, b, Contrast { method: Method::Logistic, l2: -1.0, ..usual() }, "l2");
    let broken = TraceOptions::default().with("layers.0", Intervention::scale(1e38));
    let e = steering_vectors(&model, ids(a), ids(b), &usual(), &broken, &mut None).unwrap_err();
    assert!(e.message().contains("infinities or NaN in text"), "{e}");
    let rows = TraceOptions::default().with("layers.0", Intervention::scale(2.0).rows([0]));
    let e = steering_vectors(&model, ids(a), ids(b), &usual(), &rows, &mut None).unwrap_err();
    assert!(e.message().contains("names rows"), "{e}");
    let mut stop = |_: u64, _: u64| false;
    let e = steering_vectors(&model, ids(a), ids(b), &usual(), &TraceOptions::default(), &mut Some(&mut stop));
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Callback);
    found(&model, ids(a), ids(b), &usual());
}

#[test]
fn the_tool_finds_reads_and_writes() {
    let model = small();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v.safetensors");
    let contrast = json!({"positive": [[1, 5, 9]], "negative": [[2, 8]], "save": file, "site": "mlp"});
    let found = run(&model, "steering_vectors", Call::new(contrast)).unwrap();
    assert!(found.figure().contains("layer") && found.to_string().contains("mean_difference"));
    let said = found.json().unwrap();
    assert_eq!(said["layers"]["1"]["factors"]["none"], 1.0);
    let all = found.arrays().unwrap();
    assert_eq!((all[0].0.as_str(), all[0].1.shape()), ("vectors", [2, 24].as_slice()));
    let read = run(&model, "steering_vectors", Call::new(json!({"load": file, "layers": [-1]}))).unwrap();
    assert_eq!(values(&read.arrays().unwrap()[1].1), values(&all[2].1));
    let mut call = Call::new(json!({"layers": [1], "save": folder.path().join("own.gguf")}));
    call.arrays.push(("vectors".into(), Array::from_slice(&[0.5f32; 24], &[1, 24]).unwrap()));
    run(&model, "steering_vectors", call).unwrap();
    assert_eq!(SteeringVectors::load(folder.path().join("own.gguf")).unwrap().layers[&1].vector, [0.5; 24]);
    let told =
        |call: Value| run(&model, "steering_vectors", Call::new(call)).map(drop).unwrap_err().message().to_owned();
    assert!(told(json!({})).contains("from one place"));
    assert!(told(json!({"positive": [[1]]})).contains("both"));
    assert!(told(json!({"positive": [[1]], "negative": [[2]], "method": "caa"})).contains("no method 'caa'"));
    assert!(told(json!({"positive": [[1]], "negative": [[2]], "position": "end"})).contains("no position 'end'"));
}
