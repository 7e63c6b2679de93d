//! The tuned lens: trained, saved, read, applied.

use std::path::Path;

use mlxterp::ErrorKind;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array};
use mlxterp::interpretability::lens::{
    Component, LensOptions, Optimiser, Shade, TunedLens, TunedLensOptions, logit_lens, train_tuned_lens,
    train_tuned_lens_with, tuned_lens,
};
use mlxterp::toolkit::{Call, run};
use serde_json::json;

use crate::support::{assert_close, bits, fixture, tiny, values};
use crate::{refused, tool};

/// The small trained model, and sequences of the kind it was trained on: words, then the same words again.
fn induction() -> (Model, Vec<Vec<u32>>) {
    let model = Model::load(fixture("induction").to_str().unwrap()).unwrap();
    let mut state = 7u64;
    let mut word = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        2 + ((state >> 33) % 126) as u32
    };
    let row = |_| {
        let words: Vec<u32> = (0..12).map(|_| word()).collect();
        [&[0][..], &words, &words].concat()
    };
    let rows = (0..200).map(row).collect();
    (model, rows)
}

fn short() -> TunedLensOptions {
    TunedLensOptions {
        steps: 120,
        batch: 8,
        positions: 200,
        every: 30,
        rate: Some(1e-3),
        ..TunedLensOptions::default()
    }
}

/// On a trained model, and on a random one of which every layer but the last is told.
#[test]
fn training_lowers_held_out_divergence_at_every_layer_but_the_last() {
    let (model, rows) = induction();
    let found = train_tuned_lens(&model, rows.clone(), &short()).unwrap();
    assert_eq!((found.layers.as_slice(), found.tokens), (&[0][..], [180 * 25, 20 * 25]));
    let [logit, tuned] = [found.kl.at(&[0, 0]), found.kl.at(&[0, 1])];
    // Layer 0 cannot know the next word; that it is one of the words is all there is to learn.
    assert!(tuned < logit - 0.03, "{found}");
    assert!(found.losses[found.steps - 1] < found.losses[0]);
    // The same figure by reading the held-out texts themselves; the last layer's map is the identity.
    let seen: Vec<f32> = found.held_out.iter().map(|h| h.kl[0]).collect();
    assert!(seen.iter().copied().fold(f32::INFINITY, f32::min) == tuned && seen[0] == logit);
    let lens = tuned_lens(&model, rows[..4].to_vec(), &found.lens, &LensOptions::default()).unwrap();
    let plain = logit_lens(&model, rows[..4].to_vec(), &LensOptions::default()).unwrap();
    let (a, b) = (lens.mean(Shade::Kl).unwrap().values, plain.mean(Shade::Kl).unwrap().values);
    assert!(lens.lens == "tuned lens" && lens.layers == [0, 1]);
    assert!(a[0] < b[1] && a[1].abs() < 1e-4, "{a:?} {b:?}");

    let model = tiny("smollm3");
    let rows: Vec<Vec<u32>> = (0..30).map(|r| (0..12).map(|p| (r * 7 + p * p * 5 + r * p) % 64).collect()).collect();
    let found = train_tuned_lens(&model, rows, &short()).unwrap();
    for (layer, kl) in found.layers.iter().zip(found.kl.values.chunks(2)) {
        assert!(kl[1] < kl[0], "layer {layer}: {kl:?}");
    }
    assert_eq!(found.layers.len(), model.num_layers() - 1);
}

/// Held-out divergence at the beginning is that of the logit lens, read another way.
#[test]
fn before_training_it_is_the_logit_lens() {
    let model = tiny("llama");
    let ids = vec![1u32, 5, 9, 2];
    let lens = TunedLens::identity(model.num_layers(), model.hidden_size()).unwrap();
    let options = LensOptions { embedding: false, ..LensOptions::default() };
    let (a, b) =
        (tuned_lens(&model, ids.clone(), &lens, &options).unwrap(), logit_lens(&model, ids.clone(), &options).unwrap());
    let kl = |l: &mlxterp::interpretability::lens::LogitLens| l.grid(0, Shade::Kl).unwrap().values;
    assert_close(&kl(&a), &kl(&b), 1e-5, "KL");
    let options = TunedLensOptions { steps: 1, held_out: 0.5, every: 1, ..short() };
    let found = train_tuned_lens(&model, vec![ids.clone(), ids.clone()], &options).unwrap();
    let mean: f32 = kl(&b)[..4].iter().sum::<f32>() / 4.0;
    assert!((found.held_out[0].kl[0] - mean).abs() < 1e-5);
}

#[test]
fn the_seed_says_everything_and_sgd_learns_too() {
    let (model, rows) = induction();
    let options = TunedLensOptions { steps: 6, every: 3, ..short() };
    let train = |options: &TunedLensOptions| train_tuned_lens(&model, rows.clone(), options).unwrap();
    let (a, b) = (train(&options), train(&options));
    assert_eq!(bits(a.lens.map(0).0), bits(b.lens.map(0).0));
    assert_ne!(a.losses, train(&TunedLensOptions { seed: 1, ..options.clone() }).losses);
    let sgd = TunedLensOptions { optimiser: Optimiser::Sgd, rate: Some(0.05), steps: 60, every: 20, ..options };
    let found = train(&sgd);
    assert!(found.kl.at(&[0, 1]) < found.kl.at(&[0, 0]), "{found}");
}

#[test]
fn it_stops_when_nothing_gets_better_and_gives_the_best_back() {
    let (model, rows) = induction();
    let wild = TunedLensOptions { rate: Some(0.5), steps: 200, every: 2, patience: 2, ..short() };
    let found = train_tuned_lens(&model, rows.clone(), &wild).unwrap();
    assert!(found.stopped_early && found.steps < 200, "{}", found.steps);
    let best = found.held_out.iter().map(|h| h.kl[0]).fold(f32::INFINITY, f32::min);
    assert_eq!(found.kl.at(&[0, 1]), best);
    let mut told = Vec::new();
    let mut until = |done: u64, total: u64| {
        told.push((done, total));
        done < 3
    };
    let options = TunedLensOptions { steps: 9, ..short() };
    let ended = train_tuned_lens_with(&model, rows, &options, &mut Some(&mut until)).unwrap_err();
    assert_eq!((ended.kind(), told.last().copied()), (ErrorKind::Callback, Some((3, 9))));
}

#[test]
fn a_saved_lens_is_read_back_to_the_last_bit() {
    let (model, rows) = induction();
    let found = train_tuned_lens(&model, rows, &TunedLensOptions { steps: 3, ..short() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.safetensors");
    found.lens.save(&path).unwrap();
    let back = TunedLens::load(&path).unwrap();
    for layer in 0..2 {
        let ((a, b), (c, d)) = (found.lens.map(layer), back.map(layer));
        assert!(bits(a) == bits(c) && bits(b) == bits(d));
    }
    assert_eq!((back.layers(), back.width(), back.model.is_some()), (2, 128, true));
    // The format as it is documented, by another parser.
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("translators.1.weight").unwrap().shape(), [128, 128]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "mlxterp tuned lens");
}

#[test]
fn files_of_the_python_package_are_read() {
    let model = tiny("llama");
    let d = model.hidden_size();
    for name in ["tuned.npz", "tuned.json", "tuned"] {
        let lens = TunedLens::load(&fixture("lens/python").join(name)).unwrap();
        lens.check(&model).unwrap();
        let n = (d * d) as f32;
        let (weight, bias) = (values(lens.map(1).0), values(lens.map(1).1));
        assert!((weight[d + 2] - ((d + 2) as f32 + n) / (2.0 * n)).abs() < 1e-6, "row by row");
        assert!((bias[3] - (3.0 / d as f32 + 1.0)).abs() < 1e-6);
        // weight h + bias, as MLX's Linear has it.
        let state = vec![1.0f32; d];
        let out = values(&lens.translate(1, &Array::from_slice(&state, &[1, d]).unwrap()).unwrap());
        let wanted: f32 = weight[3 * d..4 * d].iter().sum::<f32>() + bias[3];
        assert!((out[3] - wanted).abs() < 1e-4, "{} {wanted}", out[3]);
    }
}

fn broken(path: &Path) -> String {
    TunedLens::load(path).unwrap_err().message().to_owned()
}

#[test]
fn files_that_are_no_lens_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(broken(&at("no.safetensors")).contains("no.safetensors"));
    assert!(broken(&at("lens.bin")).contains("a tuned lens is"));
    assert!(broken(&fixture("tiny/llama/model.safetensors")).contains("not a tuned lens"));
    for file in ["tuned.npz", "tuned.json"] {
        std::fs::copy(fixture("lens/python").join(file), at(file)).unwrap();
    }
    std::fs::write(at("tuned.json"), r#"{"num_layers": 2, "hidden_dim": 7}"#).unwrap();
    assert!(broken(&at("tuned.npz")).contains("its .json says [7, 7]"));
    std::fs::write(at("tuned.json"), r#"{"num_layers": 2}"#).unwrap();
    assert!(broken(&at("tuned.npz")).contains("hidden_dim"));
    std::fs::copy(fixture("lens/python/tuned.json"), at("tuned.json")).unwrap();
    std::fs::write(at("tuned.json"), std::fs::read_to_string(at("tuned.json")).unwrap().replace('2', "3")).unwrap();
    assert!(!broken(&at("tuned.npz")).is_empty());
    std::fs::copy(fixture("lens/python/tuned.json"), at("tuned.json")).unwrap();
    std::fs::write(at("tuned.npz"), b"PK\x03\x04 no zip").unwrap();
    assert!(broken(&at("tuned.npz")).contains("tuned.npz"));

    let lens = TunedLens::identity(2, 8).unwrap();
    let other = tuned_lens(&tiny("llama"), vec![1u32, 2], &lens, &LensOptions::default()).unwrap_err();
    assert!(other.message().contains("the lens has 2 layers of width 8, the model 2 of width"), "{other}");
    lens.save(&at("narrow.safetensors")).unwrap();
    let options = json!({"prompts": [1, 2], "lens": at("narrow.safetensors")});
    assert!(refused(&tiny("llama"), "tuned_lens", options).contains("width 8"));
}

#[test]
fn mistakes_of_training_are_told() {
    let (model, rows) = induction();
    let fails = |texts: Vec<Vec<u32>>, options: &TunedLensOptions| {
        train_tuned_lens(&model, texts, options).unwrap_err().message().to_owned()
    };
    assert!(fails(vec![], &short()).contains("0 texts give 0 sequences"));
    assert!(fails(vec![vec![1], vec![2]], &short()).contains("2 texts give 0 sequences"));
    assert!(fails(vec![vec![1, 2, 3]], &short()).contains("at least two"));
    let options = |change: fn(&mut TunedLensOptions)| {
        let mut options = short();
        change(&mut options);
        options
    };
    assert!(fails(rows.clone(), &options(|o| o.steps = 0)).contains("steps 0"));
    assert!(fails(rows.clone(), &options(|o| o.held_out = 1.0)).contains("held_out 1"));
    assert!(fails(rows.clone(), &options(|o| o.rate = Some(f64::NAN))).contains("rate NaN"));
    assert!(fails(rows.clone(), &options(|o| o.length = 1)).contains("length 1"));
    assert!(fails(rows.clone(), &options(|o| o.layers = Some(vec![2]))).contains("no layer 2"));
    assert!(fails(rows.clone(), &options(|o| o.layers = Some(vec![]))).contains("no layers to train"));
    // Steps so long that numbers overflow.
    let nan = fails(rows.clone(), &options(|o| o.rate = Some(1e38)));
    assert!(nan.starts_with("step 1: layer 0: the loss is") && nan.contains("lower the rate"), "{nan}");
    assert!(train_tuned_lens(&model, rows, &TunedLensOptions { steps: 1, ..short() }).is_ok());
}

#[test]
fn the_tools_train_save_and_apply() {
    let (model, rows) = induction();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lens.safetensors");
    let options = json!({"texts": rows[..10], "steps": 4, "every": 2, "save": path});
    let found = tool(&model, "tuned_lens_train", options);
    assert!(found.to_string().contains("4 steps") && found.figure().contains("<polyline"));
    assert_eq!(found.json().unwrap()["kl"]["axes"][1]["labels"][1], "tuned lens");
    let arrays = found.arrays().unwrap();
    let (weights, biases) = (arrays[0].1.clone(), arrays[1].1.clone());
    assert_eq!((weights.shape(), biases.shape()), (&[2, 128, 128][..], &[2, 128][..]));

    let from_file = tool(&model, "tuned_lens", json!({"prompts": rows[0], "lens": path}));
    let mut call = Call::new(json!({"prompts": rows[0]}));
    call.arrays = vec![("weights".to_owned(), weights.clone()), ("biases".to_owned(), biases)];
    let from_arrays = run(&model, "tuned_lens", call).unwrap();
    assert_eq!(from_file.json().unwrap(), from_arrays.json().unwrap());
    assert!(from_file.figure().contains("Tuned lens"));

    let told = |name: &str, options| refused(&model, name, options);
    assert!(told("tuned_lens", json!({"prompts": [1]})).contains("needs a lens"));
    assert!(told("tuned_lens", json!({"prompts": [1], "lens": path, "component": "mlp"})).contains("not mlp"));
    assert!(told("tuned_lens_train", json!({"texts": rows[..3], "save": "lens.npz"})).contains(".safetensors"));
    assert!(
        told("tuned_lens_train", json!({"texts": rows[..3], "save": "no/such/l.safetensors"})).contains("no folder")
    );
    assert!(told("tuned_lens_train", json!({"texts": [], "steps": 1})).contains("sequences"));
    let mut call = Call::new(json!({"prompts": rows[0]}));
    call.arrays = vec![("weights".to_owned(), weights.clone()), ("biases".to_owned(), tensor::neg(&weights).unwrap())];
    assert!(run(&model, "tuned_lens", call).map(drop).unwrap_err().message().contains("a lens has"));
    assert_eq!(Component::default(), Component::ResidPost);
}
