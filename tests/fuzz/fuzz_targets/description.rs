//! An architecture description of any text: read or refused with a place, compiled against a small checkpoint, surveyed.
//! Where a `\0` splits the input, the second part is config.json.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/core"]
mod core {
    pub mod arch;
}

use std::collections::BTreeMap;

use core::arch::{Description, TensorInfo, elaborate, normalise, plan_weights};

/// Two layers of a Llama, and experts and recurrences enough for the other kinds to find something.
fn tensors() -> BTreeMap<String, TensorInfo> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        all.insert(name, TensorInfo { shape: shape.to_vec(), dtype: "F32".to_owned() });
    };
    add("model.embed_tokens.weight".into(), &[100, 32]);
    add("model.norm.weight".into(), &[32]);
    for i in 0..2 {
        let layer = format!("model.layers.{i}");
        for (name, shape) in [("q_proj", [32, 32]), ("k_proj", [16, 32]), ("v_proj", [16, 32]), ("o_proj", [32, 32])] {
            add(format!("{layer}.self_attn.{name}.weight"), &shape);
        }
        for (name, shape) in [("gate_proj", [48, 32]), ("up_proj", [48, 32]), ("down_proj", [32, 48])] {
            add(format!("{layer}.mlp.{name}.weight"), &shape);
            for e in 0..2 {
                add(format!("{layer}.mlp.experts.{e}.{name}.weight"), &shape);
            }
        }
        add(format!("{layer}.mixer.conv1d.weight"), &[32, 1, 4]);
        add(format!("{layer}.mixer.A_log"), &[4]);
        add(format!("{layer}.input_layernorm.weight"), &[32]);
        add(format!("{layer}.post_attention_layernorm.weight"), &[32]);
    }
    all
}

const CONFIG: &str = r#"{"model_type": "fuzz", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 100, "rms_norm_eps": 1e-5, "num_experts": 2,
    "num_experts_per_tok": 1, "max_position_embeddings": 64, "tie_word_embeddings": true}"#;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, config) = text.split_once('\0').unwrap_or((text, CONFIG));
    let description = match Description::parse(text, "fuzz") {
        Ok(d) => d,
        Err(e) => {
            assert!(!e.message().is_empty());
            return;
        }
    };
    let Ok(config) = serde_json::from_str(config) else { return };
    let Ok(config) = normalise(config) else { return };
    let tensors = tensors();
    let Ok(plan) = plan_weights(&description, &config, &tensors) else { return };
    let shapes: Result<BTreeMap<_, _>, error::Error> =
        plan.iter().map(|(name, e)| Ok((name.clone(), e.shape(&tensors)?))).collect();
    if let Ok(shapes) = shapes {
        if let Ok(program) = elaborate(&description, &config, &shapes) {
            for instr in &program.instrs {
                assert!(instr.inputs.iter().all(|s| (*s as usize) < program.slots.len()));
            }
        }
    }
});
