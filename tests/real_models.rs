//! Real checkpoints besides SmolLM2, as `cargo xtask fetch-model` fetches them: a decoder from a GGUF file of K formats,
//! and a sentence encoder whose embeddings are its own package's.

mod support;

use std::path::PathBuf;

use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::trace::{Cache, TraceOptions};
use mlxterp::interpretability::lens::top_tokens;
use serde_json::Value;
use support::contract::Contract;
use support::*;

/// The model at `target/models/PLACE`.
fn fetched(place: &str, name: &str) -> Model {
    let path: PathBuf = root().join("target/models").join(place);
    assert!(path.exists(), "{} is missing: cargo xtask fetch-model {name}", path.display());
    load(&path, &LoadOptions::default())
}

fn facts(folder: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(&format!("{folder}/expected.json"))).unwrap()).unwrap()
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect()
}

fn every(values: &[f32], step: usize, width: usize) -> Vec<f32> {
    values.chunks(width).flat_map(|row| row.iter().step_by(step).copied()).collect()
}

#[test]
fn gemma_3_from_a_gguf_file_equals_transformers() {
    let model = fetched("gemma-3-270m-q4_k_m.gguf", "gemma3");
    assert_eq!(model.program().arch, "gemma3_text");
    let facts = facts("gemma3");
    let tokenizer = model.tokenizer().unwrap();
    for text in facts["texts"].as_array().unwrap() {
        let (text, expected) = (text["text"].as_str().unwrap(), ids(&text["ids"]));
        assert_eq!(tokenizer.encode(text, true).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected, true).unwrap(), text);
    }
    let expected = Expected::read(&fixture("gemma3/expected.safetensors"));
    for (prompt, about) in facts["prompts"].as_object().unwrap() {
        let trace = model.trace(expected.ids(&format!("{prompt}.ids"))).unwrap();
        let logits = trace.output().unwrap();
        let top = top_tokens(&model, &logits, 0, -1, 5).unwrap();
        assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), ids(&about["top"]), "{prompt}");
        let whole = values(&logits);
        // Of the long prompt only the last position is kept.
        let keep = if prompt == "long" { 262_144 } else { whole.len() };
        let own = every(&whole[whole.len() - keep..], 1024, 262_144);
        assert_close(&own, expected.get(&format!("{prompt}.logits")), 2e-5, prompt);
        for name in expected.names().filter(|n| n.starts_with(&format!("{prompt}.model."))) {
            let whole = values(&trace.get(name.split_once('.').unwrap().1).unwrap());
            let keep = if prompt == "long" { 640 } else { whole.len() };
            assert_close(&every(&whole[whole.len() - keep..], 32, 640), expected.get(name), 2e-5, name);
        }
    }
}

#[test]
fn gemma_3_counts_on() {
    let model = fetched("gemma-3-270m-q4_k_m.gguf", "gemma3");
    let tokenizer = model.tokenizer().unwrap();
    let mut next = tokenizer.encode("1, 2, 3, 4, 5, 6,", true).unwrap();
    let (mut cache, mut text) = (Cache::default(), Vec::new());
    for _ in 0..4 {
        let trace = model.trace_with(next, &TraceOptions::default().after(&cache)).unwrap();
        let best = top_tokens(&model, &trace.output().unwrap(), 0, -1, 1).unwrap()[0].token;
        cache = trace.cache().unwrap();
        text.push(best);
        next = vec![best];
    }
    assert_eq!(tokenizer.decode(&text, true).unwrap(), " 7, ");
}

#[test]
fn minilm_s_embeddings_are_its_package_s() {
    let model = fetched("all-MiniLM-L6-v2", "minilm");
    let facts = facts("minilm");
    let mut texts = Vec::new();
    for text in facts["texts"].as_array().unwrap() {
        let words = text["text"].as_str().unwrap();
        assert_eq!(model.tokenizer().unwrap().encode(words, true).unwrap(), ids(&text["ids"]), "{words:?}");
        texts.push(words.to_owned());
    }
    let expected = Expected::read(&fixture("minilm/expected.safetensors"));
    let batch = model.batch(texts).unwrap();
    let lengths = batch.lengths().to_vec();
    let trace = model.trace_batch(batch, &TraceOptions::default()).unwrap();
    let states = trace.output().unwrap();
    let mut embeddings = Vec::new();
    for (r, length) in lengths.iter().enumerate() {
        // The mean over the row's own tokens, of length one.
        let states = row(&states, r, *length);
        let mut mean = vec![0f32; 384];
        states.chunks(384).for_each(|state| mean.iter_mut().zip(state).for_each(|(m, s)| *m += s / *length as f32));
        let norm = mean.iter().map(|m| m * m).sum::<f32>().sqrt();
        embeddings.extend(mean.iter().map(|m| m / norm));
    }
    assert_close(&embeddings, expected.get("embeddings"), 1e-5, "embeddings");
    assert_close(&values(&trace.get("bert.pooler").unwrap()), expected.get("pooled"), 1e-5, "pooler");
}

#[test]
fn an_encoder_continues_nothing() {
    let model = fetched("all-MiniLM-L6-v2", "minilm");
    let e = model.trace_with("a text", &TraceOptions::default().after(&Cache::default())).err().unwrap();
    assert!(e.message().contains("reads texts as a whole"), "{e}");
}

#[test]
fn real_models_keep_the_contract() {
    let model = fetched("gemma-3-270m-q4_k_m.gguf", "gemma3");
    let prompt = model.tokenizer().unwrap().encode("The capital of France is", true).unwrap();
    let mut contract = Contract::new(&model, &[prompt]);
    contract.names();
    // A layer that sees everything; on those behind a window the tiny models are checked.
    contract.writes(&[5]);
    contract.holds("gemma3");
}
