//! Descriptions against checkpoints that exist only as names and shapes.

mod configs;
mod fit;
mod library;
mod llama;
mod mistakes;
mod properties;
mod special;
mod weights;
mod wrappers;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::tape::Program;
use super::{Description, elaborate, for_model_type, normalise};
use crate::error::Result;

/// Shapes by tensor name.
type Shapes = BTreeMap<String, Vec<usize>>;

/// A configuration of two layers: width 32, four query heads and two key heads of 8.
fn config() -> Value {
    json!({
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 100, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "tie_word_embeddings": true
    })
}

/// The same with some keys set; null takes a key away.
fn config_with(changes: Value) -> Value {
    let mut c = config();
    if let (Some(map), Value::Object(changes)) = (c.as_object_mut(), changes) {
        for (k, v) in changes {
            match v {
                Value::Null => map.remove(&k),
                v => map.insert(k, v),
            };
        }
    }
    c
}

/// The tensors of that configuration.
fn shapes() -> Shapes {
    let mut out = Shapes::new();
    let mut add = |name: String, shape: &[usize]| out.insert(name, shape.to_vec());
    add("model.embed_tokens.weight".into(), &[100, 32]);
    add("model.norm.weight".into(), &[32]);
    for i in 0..2 {
        let layer = format!("model.layers.{i}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(format!("{layer}.{norm}.weight"), &[32]);
        }
        for (name, shape) in [
            ("self_attn.q_proj", [32, 32]),
            ("self_attn.k_proj", [16, 32]),
            ("self_attn.v_proj", [16, 32]),
            ("self_attn.o_proj", [32, 32]),
            ("mlp.gate_proj", [48, 32]),
            ("mlp.up_proj", [48, 32]),
            ("mlp.down_proj", [32, 48]),
        ] {
            add(format!("{layer}.{name}.weight"), &shape);
        }
    }
    out
}

fn compile(config: Value, shapes: &Shapes) -> Result<Program> {
    let config = normalise(config)?;
    let description = for_model_type(config["model_type"].as_str().unwrap_or("llama"))?;
    elaborate(&description, &config, shapes)
}

/// Compiles `text` against the tensors above.
fn compile_text(text: &str) -> Result<Program> {
    elaborate(&Description::parse(text, "mine")?, &normalise(config())?, &shapes())
}
