//! Every covered model type, every way of storing weights, against mlx-lm or transformers.

mod support;

use mlxterp::core::model::LoadOptions;
use mlxterp::core::tensor::{Dtype, uses_cpu};
use support::*;

/// Max relative difference by stored precision (tests/fixtures/README.md).
fn bound() -> f32 {
    if uses_cpu() { 1e-5 } else { 5e-2 }
}

fn site_of(name: &str) -> &str {
    if name == "logits" { "output" } else { name }
}

fn sites(expected: &Expected) -> Vec<String> {
    let of_run =
        |n: &&str| !n.starts_with("short.") && !n.starts_with("batch.") && !n.starts_with("native.") && *n != "ids";
    expected.names().filter(of_run).map(str::to_owned).collect()
}

#[test]
fn every_tiny_checkpoint_equals_its_oracle_at_every_site() {
    for name in tiny_names() {
        let model = tiny(&name);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        let mut worst = 0f32;
        for (prefix, ids) in [("", expected.ids("ids")), ("short.", expected.ids("short.ids"))] {
            let trace = model.trace(ids).unwrap();
            for site in sites(&expected) {
                let value = trace.get(site_of(&site)).unwrap_or_else(|e| panic!("{name}: {e}"));
                let what = format!("{name}: {prefix}{site}");
                worst =
                    worst.max(assert_close(&values(&value), expected.get(&format!("{prefix}{site}")), bound(), &what));
            }
        }
        // A row of a padded batch is its solo run.
        let trace = model.trace(expected.padded()).unwrap();
        for site in sites(&expected) {
            let value = trace.get(site_of(&site)).unwrap();
            assert_close(
                &row(&value, 0, 5),
                expected.get(&format!("short.{site}")),
                bound(),
                &format!("{name}: padded {site}"),
            );
            let both = expected.get(&site);
            assert_close(&row(&value, 1, 11), &both[both.len() / 2..], bound(), &format!("{name}: padded {site}"));
        }
        println!("{name:24} {worst:e}");
    }
}

#[test]
fn packed_weights_give_what_unpacked_ones_give() {
    for name in
        tiny_names().iter().filter(|n| n.contains("bit") || n.contains("mx") || n.contains("nv") || n.contains("mixed"))
    {
        let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let model = load(&fixture(&format!("tiny/{name}")), &options);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        let logits = model.forward(expected.ids("ids")).unwrap();
        assert_close(&values(&logits), expected.get("logits"), 1e-5, name);
    }
}

#[test]
fn smollm2_equals_mlx_lm_at_every_layer() {
    let model = smollm2();
    let expected = Expected::read(&fixture("smollm2/expected.safetensors"));
    let mut worst = (0f32, String::new());
    for prompt in ["france", "moon", "water"] {
        let trace = model.trace(expected.ids(&format!("{prompt}.ids"))).unwrap();
        let logits = trace.output().unwrap();
        let last = values(&logits);
        let length = logits.dim(1);
        assert_close(&last[(length - 1) * 49152..], expected.get(&format!("{prompt}.logits.last")), 1e-4, prompt);
        let every16: Vec<f32> = last.iter().step_by(16).copied().collect();
        assert_close(&every16, expected.get(&format!("{prompt}.logits.every16")), 1e-4, prompt);
        for name in expected.names().filter(|n| n.starts_with(&format!("{prompt}.model."))) {
            let site = name.split_once('.').unwrap().1;
            let d = assert_close(&values(&trace.get(site).unwrap()), expected.get(name), 1e-4, name);
            if d > worst.0 {
                worst = (d, name.to_owned());
            }
        }
    }
    println!("worst: {:e} at {}", worst.0, worst.1);
    let trace = model.trace(expected.padded()).unwrap();
    for (r, (prompt, length)) in [("france", 5), ("moon", 9), ("water", 8)].into_iter().enumerate() {
        for name in expected.names().filter(|n| n.starts_with(&format!("{prompt}.model."))) {
            let site = name.split_once('.').unwrap().1;
            let value = trace.get(site).unwrap();
            assert_close(&row(&value, r, length), expected.get(name), 1e-4, &format!("padded {name}"));
        }
    }
}

#[test]
fn paris_comes_first() {
    let model = smollm2();
    let logits = model.forward("The capital of France is").unwrap();
    let best = mlxterp::interpretability::lens::top_tokens(&model, &logits, 0, -1, 1).unwrap();
    assert_eq!(best[0].text, " Paris");
}
