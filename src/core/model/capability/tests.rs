use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::core::arch::{Description, elaborate, library, normalise};

/// The sites of a two-layer Llama whose text was changed by `edit`.
fn capabilities(edit: impl Fn(&str) -> String) -> impl Fn(&str) -> Capability {
    let text = edit(library::text("llama").unwrap());
    let config = normalise(json!({
        "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 100, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "tie_word_embeddings": true
    }));
    let mut shapes = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| shapes.insert(format!("{name}.weight"), shape.to_vec());
    add("model.embed_tokens".into(), &[100, 32]);
    add("model.norm".into(), &[32]);
    for i in 0..2 {
        let layer = format!("model.layers.{i}");
        for (name, shape) in [("q_proj", [32, 32]), ("k_proj", [16, 32]), ("v_proj", [16, 32]), ("o_proj", [32, 32])] {
            add(format!("{layer}.self_attn.{name}"), &shape);
        }
        for (name, shape) in [("gate_proj", [48, 32]), ("up_proj", [48, 32]), ("down_proj", [32, 48])] {
            add(format!("{layer}.mlp.{name}"), &shape);
        }
        add(format!("{layer}.input_layernorm"), &[32]);
        add(format!("{layer}.post_attention_layernorm"), &[32]);
    }
    let description = Description::parse(&text, "edited").unwrap();
    let program = elaborate(&description, &config.unwrap(), &shapes).unwrap();
    let sites = Sites::new(&program).unwrap();
    let all = manifest(&program, &sites);
    move |name: &str| all[sites.resolve(name).unwrap_or_else(|e| panic!("{e}"))].clone()
}

const STANDARD: [&str; 22] = [
    "embed",
    "norm",
    "lm_head",
    "output",
    "layers.1.input",
    "layers.0.output",
    "layers.1.output",
    "layers.0.resid_mid",
    "layers.0.attn.q",
    "layers.0.attn.k",
    "layers.0.attn.v",
    "layers.1.attn.z",
    "layers.0.attn.scores",
    "layers.0.attn.pattern",
    "layers.0.attn.result",
    "layers.0.mlp.gate",
    "layers.0.mlp.up",
    "layers.0.mlp.act",
    "layers.0.attn_add",
    "layers.0.mlp_add",
    "layers.0.attn.q_proj.output",
    "layers.0.input_layernorm.input",
];

#[test]
fn every_standard_name_of_a_llama_is_proven() {
    let of = capabilities(str::to_owned);
    for name in STANDARD {
        let c = of(name);
        assert!(c.verified.is_some() && c.writable && c.differentiable, "{name}: {c:?}");
    }
    assert!(!of("ids").writable && !of("ids").differentiable);
}

#[test]
fn a_name_that_means_something_else_is_not_verified() {
    // What the description calls resid_mid is not what the second half of the layer adds to.
    let of = capabilities(|t| {
        t.replace("resid_mid = h", "resid_mid = wrong").replace(
            "  h = x + self_attn(input_layernorm(x))\n",
            "  h = x + self_attn(input_layernorm(x))\n  wrong = h + x\n",
        )
    });
    assert_eq!(of("layers.0.resid_mid").verified, None);
    // Queries scaled between the name and the kernel.
    let of = capabilities(|t| t.replace("z = attend(q, kc", "z = attend(q * 2, kc"));
    assert_eq!(of("layers.0.attn.q").verified, None);
    assert!(of("layers.0.attn.k").verified.is_some());
    // A factor between act and the last projection.
    let of = capabilities(|t| t.replace("down_proj(act)", "down_proj(act * 2)"));
    assert_eq!(of("layers.0.mlp.act").verified, None);
}

#[test]
fn gradients_stop_at_steps() {
    let of = capabilities(|t| t.replace("return down_proj(act)", "return down_proj(floor(act))"));
    assert!(!of("layers.0.mlp.act").differentiable && !of("layers.0.mlp.up").differentiable);
    assert!(of("layers.0.attn.z").differentiable && of("layers.0.mlp").differentiable);
}
