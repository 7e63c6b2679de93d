//! What attributions cost, in plain forwards of the same prompt on SmolLM2. Ratios within one run are what counts.

use criterion::{Criterion, criterion_group, criterion_main};
use mlxterp::analysis::attribution::{AttributionPatchingOptions, attribution_patching};
use mlxterp::analysis::circuits::{EdgeAttributionOptions, EdgeMethod, edge_attribution};
use mlxterp::core::model::Model;
use mlxterp::utils::Metric;

const CLEAN: &str = "The capital of France is the beautiful old city of";
const CORRUPT: &str = "The capital of Italy is the beautiful old city of";

fn bench(c: &mut Criterion) {
    let model =
        Model::load(concat!(env!("CARGO_MANIFEST_DIR"), "/target/models/SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap();
    let metric = Metric::logit_difference(" Paris", " Rome");
    let mut group = c.benchmark_group("attribution");
    group.sample_size(10);
    group.bench_function("one forward", |b| b.iter(|| model.forward(CLEAN).unwrap().eval().unwrap()));
    let options = AttributionPatchingOptions::default();
    group.bench_function("attribution patching, every component", |b| {
        b.iter(|| attribution_patching(&model, CLEAN, CORRUPT, &metric, &options).unwrap());
    });
    let options = EdgeAttributionOptions { method: EdgeMethod::Eap, ..EdgeAttributionOptions::default() };
    group.bench_function("EAP, every edge", |b| {
        b.iter(|| edge_attribution(&model, CLEAN, CORRUPT, &metric, &options, None).unwrap());
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
