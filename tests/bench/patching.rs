//! What a patching grid of every layer and position costs on SmolLM2, in plain forwards of the same prompt: 30 layers and
//! 12 positions are 360 cells. Ratios within one run are what counts.

use criterion::{Criterion, criterion_group, criterion_main};
use mlxterp::analysis::patching::{Component, PatchingOptions, Sharing, activation_patching};
use mlxterp::core::model::Model;
use mlxterp::utils::Metric;

/// Twelve tokens each; the first pair differs from its second token on, the second from its first.
const PAIRS: [[&str; 2]; 2] = [
    ["The Eiffel Tower in Europe is located in the city of", "The Louvre Museum in Europe is located in the city of"],
    ["Paris is in France, and the capital of Italy is now", "Rome was of Italy: so her capital on France be so"],
];

fn bench(c: &mut Criterion) {
    let model =
        Model::load(concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let metric = || Metric::logit_difference(" Paris", " Rome");
    for (pair, name) in PAIRS.iter().zip(["one token in common in front", "nothing in common in front"]) {
        let [clean, corrupt] = *pair;
        for prompt in pair {
            assert_eq!(model.batch(*prompt).unwrap().width(), 12, "{prompt}");
        }
        let mut group = c.benchmark_group(format!("patching, {name}"));
        group.sample_size(10);
        group.bench_function("one forward", |b| b.iter(|| model.forward(clean).unwrap().eval().unwrap()));
        for (sharing, name) in [(Sharing::Auto, "grid of 360 cells"), (Sharing::Forks, "grid of 360 cells, by forks")] {
            let options = PatchingOptions { sharing, ..PatchingOptions::default() };
            group.bench_function(name, |b| {
                b.iter(|| activation_patching(&model, clean, corrupt, metric(), &options).unwrap());
            });
        }
        let options = PatchingOptions::of(Component::Z);
        group.bench_function("grid of 270 heads", |b| {
            b.iter(|| activation_patching(&model, clean, corrupt, metric(), &options).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
