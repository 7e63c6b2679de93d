//! Direct logit attribution.

use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Dtype;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::lens::{
    AttributionOptions, LogitAttribution, Norm, attribution_of, direct_logit_attribution,
};
use mlxterp::utils::Tokens;
use serde_json::json;

use crate::support::entry::{Entry, Stored};
use crate::support::{assert_close, smollm2, tiny, values};
use crate::{expected, refused, texts, tool};

fn between(answer: impl Into<Tokens>, wrong: impl Into<Tokens>) -> AttributionOptions {
    AttributionOptions { answer: Some(answer.into()), wrong: Some(wrong.into()), ..AttributionOptions::default() }
}

/// One component of one prompt, layer by layer.
fn column(found: &LogitAttribution, prompt: usize, component: &str) -> Vec<f32> {
    let grid = found.of_prompt(prompt).unwrap();
    let at = grid.axes[1].labels.iter().position(|l| l == component).unwrap();
    (0..grid.axes[0].len()).map(|layer| grid.at(&[layer, at])).collect()
}

#[test]
fn components_heads_and_neurons_are_what_pytorch_makes_of_the_same_weights() {
    let (want, about) = expected();
    let model = smollm2();
    let options = AttributionOptions { heads: true, neurons: 50, ..between(" Paris", " Rome") };
    let found = direct_logit_attribution(&model, texts(&about, "prompts"), &options).unwrap();
    for prompt in 0..2 {
        let of = |name: &str| want.get(&format!("attribution.{prompt}.{name}"));
        assert_close(&column(&found, prompt, "attn"), of("attn"), 1e-4, "attention");
        assert_close(&column(&found, prompt, "mlp"), of("mlp"), 1e-4, "MLPs");
        assert_close(&found.heads_of_prompt(prompt).unwrap().values, of("heads"), 1e-4, "heads");
        assert_close(&[found.others[0].values[prompt]], of("embed"), 1e-4, "embedding");
        let row = &found.prompts[prompt];
        assert!((row.logit - of("logit")[0]).abs() < 2e-3 && row.remainder.abs() < 1e-4, "{row:?}");
        let places = of("neuron_places");
        for (i, value) in of("neuron_values").iter().enumerate() {
            let (layer, neuron) = (places[2 * i] as usize, places[2 * i + 1] as usize);
            let seen = found.neurons[layer].values.at(&[prompt, neuron]);
            assert!((seen - value).abs() < 1e-4, "layer {layer}, neuron {neuron}: {seen} {value}");
        }
        let first = found.top_neurons.iter().find(|n| n.prompt == prompt).unwrap();
        assert_eq!((first.layer as f32, first.neuron as f32), (places[0], places[1]));
    }
    let options = AttributionOptions { norm: Norm::Linearised, ..between(" Paris", " Rome") };
    let found = direct_logit_attribution(&model, texts(&about, "prompts"), &options).unwrap();
    assert_close(&column(&found, 0, "mlp"), want.get("attribution.0.gradient_mlp"), 1e-4, "MLPs by gradient");
    assert!(found.prompts[0].remainder.abs() > 1.0, "a norm keeps nothing of a sum of gradients");
}

/// Post-norms, parallel blocks, multipliers, gains, layer norms, soft-caps, biases, mixtures, recurrences: the parts add up
/// to the logit, and heads and neurons to their components.
#[test]
fn parts_add_up_to_the_logit_on_every_architecture() {
    let options = LoadOptions { dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let (mut whole, mut heads, mut neurons, mut capped) = (0, 0, 0, 0);
    for entry in Entry::chosen() {
        let model = entry.load(Stored::Float32, &options).unwrap();
        let ids = entry.ids();
        let asked = between(3u32, 7u32);
        let found = match direct_logit_attribution(&model, ids.clone(), &asked) {
            Ok(found) => found,
            Err(e) => {
                let why = e.message();
                assert!(why.contains("more than norms") || why.contains("takes"), "{}: {e}", entry.name);
                continue;
            }
        };
        whole += 1;
        capped += usize::from(found.softcap.is_some());
        check(&entry, &model, &found);
        for asked in [AttributionOptions { heads: true, ..asked.clone() }, AttributionOptions { neurons: 2, ..asked }] {
            let Ok(found) = direct_logit_attribution(&model, ids.clone(), &asked) else { continue };
            for split in found.heads.iter().chain(&found.neurons) {
                // Biases, and experts beside the units.
                let bias =
                    !model.program().experts.is_empty() || model.program().tensors.iter().any(|t| t.contains("bias"));
                let size = split.values.values.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
                let rest = split.rest.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                assert!(bias || rest / size < 1e-5, "{}, layer {}: {rest} of {size}", entry.name, split.layer);
            }
            heads += usize::from(!found.heads.is_empty());
            neurons += usize::from(!found.neurons.is_empty());
        }
    }
    if std::env::var_os("ARCH").is_none() {
        assert!(whole >= 180 && heads >= 170 && neurons >= 100 && capped >= 4, "{whole} {heads} {neurons} {capped}");
    }
}

/// The number is the logits' own, and the parts add up to it.
fn check(entry: &Entry, model: &Model, found: &LogitAttribution) {
    let logits = values(&model.forward(entry.ids()).unwrap());
    let vocabulary = model.vocab_size().max(1);
    let (rows, width) = (entry.ids().len(), entry.ids()[0].len());
    let wide = logits.len() / rows / width;
    assert!(wide <= vocabulary, "{}", entry.name);
    for (r, row) in found.prompts.iter().enumerate() {
        let at = (r * width + width - 1) * wide;
        let uncapped = |x: f32| found.softcap.map_or(x, |c| (c * (f64::from(x) / c).atanh()) as f32);
        let wanted = uncapped(logits[at + 3]) - uncapped(logits[at + 7]);
        let size = found.components.values.iter().fold(row.logit.abs(), |m, v| m.max(v.abs()));
        // Where the cap has flattened a logit, it cannot be told what it was.
        let flat = |x: f32| found.softcap.is_some_and(|c| f64::from(x.abs()) > 0.99 * c);
        let told = !flat(logits[at + 3]) && !flat(logits[at + 7]);
        assert!(!told || (row.logit - wanted).abs() / size < 2e-4, "{}: {} for {wanted}", entry.name, row.logit);
        assert!(row.remainder.abs() / size < 1e-5, "{}: remainder {} of {size}", entry.name, row.remainder);
    }
}

/// With a layer norm, by hand in double precision: the scale of this run, centring, weight, bias.
#[test]
fn a_frozen_layer_norm_is_centring_and_a_scale() {
    let entry = Entry::read("gpt2");
    let options = LoadOptions { dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let model = entry.load(Stored::Float32, &options).unwrap();
    let ids = entry.ids()[0].clone();
    let found =
        direct_logit_attribution(&model, ids.clone(), &AttributionOptions { heads: true, ..between(3u32, 7u32) })
            .unwrap();
    let trace = model.trace(ids.clone()).unwrap();
    let tensor = |end: &str| {
        let id = model.program().tensors.iter().position(|t| t.ends_with(end)).unwrap();
        values(model.parameters().tensor(id as u32).unwrap()).into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let (weight, bias, table) = (tensor("ln_f.weight"), tensor("ln_f.bias"), tensor("wte.weight"));
    let d = weight.len();
    let last = |site: &str| -> Vec<f64> {
        let all = values(&trace.get(site).unwrap());
        all[all.len() - d..].iter().map(|v| f64::from(*v)).collect()
    };
    let stream = last("norm.input");
    let mean = stream.iter().sum::<f64>() / d as f64;
    let variance = stream.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
    let eps = model.config()["layer_norm_epsilon"].as_f64().unwrap_or(1e-5);
    let through = |part: &[f64]| -> f64 {
        let mean = part.iter().sum::<f64>() / d as f64;
        let scaled = |i: usize| (part[i] - mean) / (variance + eps).sqrt() * weight[i];
        (0..d).map(|i| scaled(i) * (table[3 * d + i] - table[7 * d + i])).sum()
    };
    for layer in 0..model.num_layers() {
        for (component, site) in [("attn", "attn_add"), ("mlp", "mlp_add")] {
            let wanted = through(&last(&format!("layers.{layer}.{site}"))) as f32;
            assert!((column(&found, 0, component)[layer] - wanted).abs() < 1e-4, "{component} {layer}");
        }
        let result = values(&trace.fork().unwrap().get(&format!("layers.{layer}.attn.result")).unwrap());
        let (heads, width) = (model.num_heads(), ids.len());
        for head in 0..heads {
            let at = (head * width + width - 1) * d;
            let own: Vec<f64> = result[at..at + d].iter().map(|v| f64::from(*v)).collect();
            let seen = found.heads[layer].values.at(&[0, head]);
            assert!((seen - through(&own) as f32).abs() < 1e-4, "layer {layer}, head {head}");
        }
    }
    let wanted: f64 = (0..d).map(|i| bias[i] * (table[3 * d + i] - table[7 * d + i])).sum();
    let named = |end: &str| found.others.iter().find(|p| p.name.ends_with(end)).unwrap().values[0];
    assert!((named("ln_f.bias") - wanted as f32).abs() < 1e-4);
    assert!((named("pos_embed") - through(&last_position(&model, ids.len(), d)) as f32).abs() < 1e-4);
}

/// The embedding of the last position.
fn last_position(model: &Model, width: usize, d: usize) -> Vec<f64> {
    let id = model.program().tensors.iter().position(|t| t.ends_with("wpe.weight")).unwrap();
    let all = values(model.parameters().tensor(id as u32).unwrap());
    all[(width - 1) * d..width * d].iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn rows_of_a_padded_batch_are_their_own_and_edits_are_seen() {
    let model = tiny("qwen2");
    let rows = vec![vec![1u32, 5, 9, 2, 8, 30], vec![4u32, 4, 7]];
    let options = AttributionOptions { heads: true, neurons: 1, ..between(3u32, 7u32) };
    let both = direct_logit_attribution(&model, rows.clone(), &options).unwrap();
    let solo = direct_logit_attribution(&model, rows[1].clone(), &options).unwrap();
    let padded = both.of_prompt(1).unwrap().values;
    assert_close(&padded, &solo.of_prompt(0).unwrap().values, 1e-5, "components");
    assert_close(&both.heads_of_prompt(1).unwrap().values, &solo.heads_of_prompt(0).unwrap().values, 1e-5, "heads");
    let first = AttributionOptions { position: 1, ..options.clone() };
    let moved = direct_logit_attribution(&model, rows[0].clone(), &first).unwrap();
    assert_eq!((moved.prompts[0].position, moved.prompts[0].after.as_str()), (1, "5"));

    let edited = |site: &str| {
        let edit = TraceOptions::default().with(site, Intervention::zero_out());
        attribution_of(&model.trace_with(rows[0].clone(), &edit).unwrap(), &options, &mut None).unwrap()
    };
    let silent = edited("layers.0.attn");
    assert_eq!(column(&silent, 0, "attn")[0], 0.0);
    assert!(silent.prompts[0].remainder.abs() < 1e-4);
    // What is written into the stream itself is no layer's: it shows in the remainder.
    assert!(edited("layers.0.output").prompts[0].remainder.abs() > 1e-3);
}

#[test]
fn packed_weights_are_told_apart_too() {
    let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    let model = Model::load_with("tests/fixtures/tiny/llama_4bit_g64", &options, None).unwrap();
    let asked = AttributionOptions { heads: true, neurons: 3, ..AttributionOptions::default() };
    let found = direct_logit_attribution(&model, vec![1u32, 5, 9, 2], &asked).unwrap();
    assert!(found.prompts[0].remainder.abs() < 1e-4, "{found}");
    assert!(found.heads.iter().chain(&found.neurons).all(|s| s.rest[0].abs() < 1e-4), "{found:?}");
}

#[test]
fn the_tool_tells_its_parts_and_its_mistakes() {
    let model = tiny("llama");
    let options = json!({"prompts": [[1, 5, 9], [2, 4]], "answer": [3, 4], "wrong": 7, "heads": true, "neurons": 2});
    let found = tool(&model, "direct_logit_attribution", options);
    let names: Vec<String> = found.arrays().unwrap().into_iter().map(|(n, _)| n).collect();
    assert!(
        ["logit", "remainder", "components", "embed", "heads.1", "neurons.0"]
            .iter()
            .all(|n| names.contains(&n.to_string()))
    );
    assert!(found.to_string().contains("logit of \"3\" less that of \"7\" after \"9\""), "{found}");
    assert!(found.figure().contains("By head") && found.json().unwrap()["components"]["axes"][1]["name"] == "layer");

    let told = |options| refused(&model, "direct_logit_attribution", options);
    assert!(told(json!({"prompts": [1], "answer": 64})).contains("out of range"));
    assert!(told(json!({"prompts": [[1], [2]], "answer": [1, 2, 3]})).contains("3 answer tokens for 2 prompts"));
    assert!(told(json!({"prompts": [1, 2], "position": 2})).contains("no position 2"));
    assert!(told(json!({"prompts": [1], "norm": "none"})).contains("frozen"));
    assert!(told(json!({"prompts": [1], "head": true})).contains("unknown field `head`"));
    let several =
        refused(&smollm2(), "direct_logit_attribution", json!({"prompts": "a", "answer": " unbelievably so"}));
    assert!(several.contains("tokens"), "{several}");
}
