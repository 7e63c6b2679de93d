//! The name contract: a name means a computation, on every layer of every covered model.

mod support;

use mlxterp::core::arch::tape::Op;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self as t, Array, Dtype};
use mlxterp::core::trace::{Trace, TraceOptions};
use support::*;

/// What float32 rounding may do where a contract compares two ways of computing one thing.
const ROUNDING: f32 = 2e-5;

fn get(trace: &Trace, site: &str) -> Array {
    trace.get(site).unwrap_or_else(|e| panic!("{site}: {e}"))
}

fn assert_same_bits(a: &Array, b: &Array, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    assert!(bits(a) == bits(b), "{what}: bits differ, by {:e}", difference(&values(a), &values(b)));
}

/// (a) to (f): one trace, every layer.
fn names_mean_what_they_say(model: &Model, rows: &[Vec<u32>], what: &str) {
    let n = model.num_layers();
    let trace = model.trace(rows.to_vec()).unwrap();
    for i in 0..n {
        let at = |site: &str| get(&trace, &format!("layers.{i}.{site}"));
        let (pattern, z, v) = (at("attn.pattern"), at("attn.z"), at("attn.v"));
        // (a)
        if i + 1 < n {
            assert_same_bits(
                &at("output"),
                &get(&trace, &format!("layers.{}.input", i + 1)),
                &format!("{what} (a) {i}"),
            );
        }
        assert_same_bits(&at("output"), &at("resid_post"), &format!("{what} (a) {i}"));
        assert_same_bits(&at("input"), &at("resid_pre"), &format!("{what} (a) {i}"));
        // (b)
        let mid = t::add(&at("resid_pre"), &at("attn.output")).unwrap();
        assert_same_bits(&at("resid_mid"), &mid, &format!("{what} (b) {i}"));
        let post = t::add(&at("resid_mid"), &at("mlp.output")).unwrap();
        assert_same_bits(&at("resid_post"), &post, &format!("{what} (b) {i}"));
        // (c) each query head with its own KV group
        let group = pattern.dim(1) / v.dim(1);
        let mixed = t::matmul(&pattern, &t::repeat(&v, group, 1).unwrap()).unwrap();
        assert_close(&values(&mixed), &values(&z), ROUNDING, &format!("{what} (c) z {i}"));
        let result = at("attn.result");
        let out = at("attn.output");
        let mut sum = t::sum(&result, 1, false).unwrap();
        if let Some(bias) = tensor(model, &format!("model.layers.{i}.self_attn.o_proj.bias")) {
            sum = t::add(&sum, &bias).unwrap();
        }
        assert_close(&values(&sum), &values(&out), ROUNDING, &format!("{what} (c) result {i}"));
        // (d)
        check_pattern(model, &pattern, i, what);
        let soft = t::softmax(&at("attn.scores"), -1).unwrap();
        assert_close(&values(&soft), &values(&pattern), ROUNDING, &format!("{what} (d) scores {i}"));
        // (e)
        let (gate, up) = (at("mlp.gate"), at("mlp.up"));
        let act = t::mul(&t::mul(&gate, &t::sigmoid(&gate).unwrap()).unwrap(), &up).unwrap();
        assert_close(&values(&act), &values(&at("mlp.act")), ROUNDING, &format!("{what} (e) {i}"));
    }
    // (f) from the parameters themselves
    let last = get(&trace, "layers.-1.output");
    let eps = model.config()["rms_norm_eps"].as_f64().unwrap();
    let normed = t::rms_norm(&last, Some(&tensor(model, "model.norm.weight").unwrap()), eps).unwrap();
    assert_same_bits(&normed, &get(&trace, "norm"), &format!("{what} (f) norm"));
    let head = model.program().instrs.iter().find_map(|i| match &i.op {
        Op::Linear(w) if i.path == "lm_head" => Some(model.parameters().dense(w).unwrap()),
        _ => None,
    });
    let logits = t::matmul(&normed, &t::swap_axes(&head.unwrap(), 0, 1).unwrap()).unwrap();
    assert_close(&values(&logits), &values(&get(&trace, "output")), ROUNDING, &format!("{what} (f) head"));
    assert_same_bits(&get(&trace, "lm_head"), &get(&trace, "output"), &format!("{what} (f)"));
}

fn tensor(model: &Model, name: &str) -> Option<Array> {
    let at = model.program().tensors.iter().position(|n| n == name)?;
    model.parameters().tensor(at as u32).ok().cloned()
}

fn window(model: &Model, layer: usize) -> Option<usize> {
    let path = format!("model.layers.{layer}.self_attn");
    model.program().instrs.iter().find_map(|i| match &i.op {
        Op::Attend(a) if i.path == path => Some(a.window),
        _ => None,
    })?
}

fn check_pattern(model: &Model, pattern: &Array, layer: usize, what: &str) {
    let (rows, width) = (pattern.dim(0) * pattern.dim(1), pattern.dim(2));
    let p = values(pattern);
    let window = window(model, layer).unwrap_or(usize::MAX);
    for r in 0..rows {
        for q in 0..width {
            let line = &p[(r * width + q) * width..][..width];
            let sum: f32 = line.iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{what} (d) {layer}: a row sums to {sum}");
            for (k, weight) in line.iter().enumerate() {
                let visible = k <= q && q - k < window;
                assert!(visible || *weight == 0.0, "{what} (d) {layer}: query {q} sees key {k}");
            }
        }
    }
}

/// (g), (h), (i): writes.
fn writes_do_what_they_say(model: &Model, ids: &[u32], what: &str, layers: &[usize]) {
    let plain = model.forward(ids.to_vec()).unwrap();
    let width = ids.len();
    for i in layers {
        for site in
            ["attn.q", "attn.k", "attn.v", "attn.z", "attn.output", "mlp.act", "mlp.output", "output", "resid_mid"]
        {
            let name = format!("layers.{i}.{site}");
            // (g)
            let trace = model.trace(ids.to_vec()).unwrap();
            let value = get(&trace, &name);
            trace.set(&name, &value).unwrap();
            assert_same_bits(&trace.output().unwrap(), &plain, &format!("{what} (g) {name}"));
            // (h)
            let position = width / 2;
            let random = t::random_normal(value.shape(), Dtype::Float32, 7).unwrap();
            let options =
                TraceOptions::default().with(&name, Intervention::replace_with(random).positions([position as i64]));
            let changed = model.trace_with(ids.to_vec(), &options).unwrap().output().unwrap();
            let vocabulary = plain.dim(2);
            let (a, b) = (values(&changed), values(&plain));
            assert!(a[..position * vocabulary] == b[..position * vocabulary], "{what} (h) {name}: changed the past");
            assert!(a[position * vocabulary..] != b[position * vocabulary..], "{what} (h) {name}: changed nothing");
        }
        for site in ["attn.scores", "attn.pattern", "attn.result"] {
            let name = format!("layers.{i}.{site}");
            let trace = model.trace(ids.to_vec()).unwrap();
            let value = get(&trace, &name);
            trace.set(&name, &value).unwrap();
            assert_close(&values(&trace.output().unwrap()), &values(&plain), ROUNDING, &format!("{what} (g) {name}"));
            let options = TraceOptions::default().with(&name, Intervention::scale(0.5).heads([0]));
            let changed = model.trace_with(ids.to_vec(), &options).unwrap().output().unwrap();
            assert!(values(&changed) != values(&plain), "{what} (h) {name}: changed nothing");
        }
        // (i) a zeroed module is a residual stream that passes it by
        for (site, before, after) in [("attn", "resid_pre", "resid_mid"), ("mlp", "resid_mid", "resid_post")] {
            let options = TraceOptions::default().with(format!("layers.{i}.{site}"), Intervention::zero_out());
            let trace = model.trace_with(ids.to_vec(), &options).unwrap();
            let (b, a) = (get(&trace, &format!("layers.{i}.{before}")), get(&trace, &format!("layers.{i}.{after}")));
            assert_same_bits(&a, &b, &format!("{what} (i) layers.{i}.{site}"));
        }
    }
    // (m) an empty trace is the plain forward
    assert_same_bits(&model.trace(ids.to_vec()).unwrap().output().unwrap(), &plain, &format!("{what} (m)"));
}

#[test]
fn tiny_models_keep_the_contract() {
    for name in tiny_names() {
        let model = tiny(&name);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        names_mean_what_they_say(&model, &expected.ids("ids"), &name);
        let layers: Vec<usize> = (0..model.num_layers()).collect();
        writes_do_what_they_say(&model, &expected.ids("ids")[0], &name, &layers);
    }
}

#[test]
fn smollm2_keeps_the_contract() {
    let model = smollm2();
    let ids = model.tokenizer().unwrap().encode("The capital of France is", true).unwrap();
    names_mean_what_they_say(&model, std::slice::from_ref(&ids), "smollm2");
    let layers: Vec<usize> = (0..model.num_layers()).collect();
    writes_do_what_they_say(&model, &ids, "smollm2", &layers);
}

#[test]
fn packed_models_keep_the_contract() {
    let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    for name in ["llama_4bit_g32", "llama_mixed", "llama_mxfp4"] {
        let model = load(&fixture(&format!("tiny/{name}")), &options);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        names_mean_what_they_say(&model, &expected.ids("ids"), name);
        writes_do_what_they_say(&model, &expected.ids("ids")[0], name, &[0]);
    }
}

#[test]
fn a_4_bit_copy_of_smollm2_keeps_the_contract() {
    let ids = [504, 3575, 282, 4649, 314];
    for keep_quantised in [Some(true), None] {
        let options = LoadOptions { keep_quantised, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let model = load(&smollm2_4bit_path(), &options);
        names_mean_what_they_say(&model, &[ids.to_vec()], "4-bit smollm2");
        let logits = model.forward(ids.to_vec()).unwrap();
        let every16: Vec<f32> = values(&logits).into_iter().step_by(16).collect();
        let expected = Expected::read(&fixture("smollm2/expected.safetensors"));
        assert_close(&every16, expected.get("france.four_bit.logits.every16"), 1e-4, "4-bit smollm2");
        if keep_quantised.is_none() {
            let layers: Vec<usize> = (0..model.num_layers()).collect();
            writes_do_what_they_say(&model, &ids, "4-bit smollm2", &layers);
        }
    }
}

/// (i) in full: an ablated module is a module whose last weight is zero.
#[test]
fn zeroing_a_site_equals_zeroing_its_weights() {
    let ids = [3u32, 7, 11, 20, 33, 5];
    let whole = tiny("llama");
    for (site, weight) in [("attn", "self_attn.o_proj"), ("mlp", "mlp.down_proj")] {
        for layer in 0..whole.num_layers() {
            let mut bytes = std::fs::read(fixture("tiny/llama/model.safetensors")).unwrap();
            let name = format!("model.layers.{layer}.{weight}.weight");
            let range = {
                let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                let data = file.tensor(&name).unwrap().data();
                let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
                start..start + data.len()
            };
            bytes[range].fill(0);
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
            std::fs::copy(fixture("tiny/llama/config.json"), dir.path().join("config.json")).unwrap();
            let zeroed = load(dir.path(), &LoadOptions::default()).forward(ids.to_vec()).unwrap();
            let options = TraceOptions::default().with(format!("layers.{layer}.{site}"), Intervention::zero_out());
            let ablated = whole.trace_with(ids.to_vec(), &options).unwrap().output().unwrap();
            assert_same_bits(&ablated, &zeroed, &format!("(i) layers.{layer}.{site}"));
        }
    }
}
