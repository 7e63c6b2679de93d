//! What steering costs in a generation, and what the growing memory costs. Ratios within one run are what counts.

use criterion::{Criterion, criterion_group, criterion_main};
use mlxterp::core::generation::{GenerateOptions, Steering, When};
use mlxterp::core::intervention::{Condition, Intervention};
use mlxterp::core::model::Model;
use mlxterp::core::tensor::Array;

const TOKENS: usize = 32;

fn load() -> Model {
    Model::load(concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap()
}

fn open_ended(n: usize) -> GenerateOptions {
    GenerateOptions { eos: Some(Vec::new()), ..GenerateOptions::greedy(n) }
}

fn vector(width: usize) -> Array {
    let values: Vec<f32> = (0..width).map(|i| (i as f32 * 0.7).sin() * 0.1).collect();
    Array::from_slice(&values, &[width]).unwrap()
}

fn run(model: &Model, prompt: &[u32], options: &GenerateOptions) {
    let rows = model.generate(prompt.to_vec(), options).unwrap().run().unwrap();
    assert_eq!(rows[0].tokens.len(), options.max_tokens);
}

fn steering(c: &mut Criterion) {
    let model = load();
    let prompt: Vec<u32> = (0..16).map(|i| 1000 + i).collect();
    let add = || Intervention::add_vector(vector(model.hidden_size()), 1.0);
    let one = open_ended(TOKENS).steer(Steering::new("layers.15.output", add()).when(When::Decode));
    let all = open_ended(TOKENS).steer(Steering::new("layers.*.output", add()).when(When::Decode));
    let probe = Condition::above("layers.10.output", vector(model.hidden_size()), 0.0);
    let conditional = open_ended(TOKENS).steer(Steering::new("layers.15.output", add()).only_while(probe));
    let mut group = c.benchmark_group(format!("generate, {TOKENS} tokens"));
    group.sample_size(10);
    for (name, options) in [
        ("plain", open_ended(TOKENS)),
        ("a vector after one layer", one),
        ("a vector after every layer", all),
        ("a vector while a probe is above 0", conditional),
    ] {
        group.bench_function(name, |b| b.iter(|| run(&model, &prompt, &options)));
    }
    group.finish();
}

/// The same number of steps behind a short and a long past.
fn past(c: &mut Criterion) {
    let model = load();
    let mut group = c.benchmark_group("generate, 8 tokens");
    group.sample_size(10);
    for n in [16, 500] {
        let prompt: Vec<u32> = (0..n).map(|i| 1000 + i).collect();
        // One token more than the prefill's, so that the difference of two runs is eight decode steps.
        for tokens in [1, 9] {
            group.bench_function(format!("{tokens} after {n}"), |b| {
                b.iter(|| run(&model, &prompt, &open_ended(tokens)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, steering, past);
criterion_main!(benches);
