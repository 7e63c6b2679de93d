//! The name contract: a name means a computation, on every layer of every covered model.

mod support;

use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Dtype;
use mlxterp::core::trace::TraceOptions;
use support::contract::Contract;
use support::*;

/// The whole contract: names on all rows, writes on the first, on these layers.
fn keeps_the_contract(model: &Model, rows: &[Vec<u32>], what: &str, layers: &[usize]) {
    let mut contract = Contract::new(model, rows);
    contract.names();
    contract.writes(layers);
    contract.slopes();
    contract.holds(what);
}

fn all_layers(model: &Model) -> Vec<usize> {
    (0..model.num_layers()).collect()
}

#[test]
fn tiny_models_keep_the_contract() {
    for name in tiny_names() {
        let model = tiny(&name);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        keeps_the_contract(&model, &expected.ids("ids"), &name, &all_layers(&model));
    }
}

#[test]
fn smollm2_keeps_the_contract() {
    let model = smollm2();
    let ids = model.tokenizer().unwrap().encode("The capital of France is", true).unwrap();
    keeps_the_contract(&model, &[ids], "smollm2", &all_layers(&model));
}

#[test]
fn packed_models_keep_the_contract() {
    let options = LoadOptions { keep_quantised: Some(true), dtype: Some(Dtype::Float32), ..LoadOptions::default() };
    for name in ["llama_4bit_g32", "llama_mixed", "llama_mxfp4"] {
        let model = load(&fixture(&format!("tiny/{name}")), &options);
        let expected = Expected::read(&fixture(&format!("tiny/{name}/expected.safetensors")));
        keeps_the_contract(&model, &expected.ids("ids"), name, &[0]);
    }
}

#[test]
fn a_4_bit_copy_of_smollm2_keeps_the_contract() {
    let ids = [504, 3575, 282, 4649, 314];
    for keep_quantised in [Some(true), None] {
        let options = LoadOptions { keep_quantised, dtype: Some(Dtype::Float32), ..LoadOptions::default() };
        let model = load(&smollm2_4bit_path(), &options);
        let logits = model.forward(ids.to_vec()).unwrap();
        let every16: Vec<f32> = values(&logits).into_iter().step_by(16).collect();
        let expected = Expected::read(&fixture("smollm2/expected.safetensors"));
        assert_close(&every16, expected.get("france.four_bit.logits.every16"), 1e-4, "4-bit smollm2");
        let layers = if keep_quantised.is_none() { all_layers(&model) } else { Vec::new() };
        keeps_the_contract(&model, &[ids.to_vec()], "4-bit smollm2", &layers);
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
            assert!(bits(&ablated) == bits(&zeroed), "(i) layers.{layer}.{site}");
        }
    }
}
