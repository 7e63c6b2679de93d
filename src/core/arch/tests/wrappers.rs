use serde_json::json;

use super::super::weights::{TensorInfo, plan_weights};
use super::*;
use crate::error::ErrorKind;

#[test]
fn a_wrapper_reads_text_config_and_puts_its_path_in_front() {
    let d = Description::parse("arch vision wraps llama under language_model", "vision").unwrap();
    let s: Shapes = shapes().into_iter().map(|(k, v)| (format!("language_model.{k}"), v)).collect();
    let p = elaborate(&d, &json!({"model_type": "vision", "text_config": config()}), &s).unwrap();
    assert_eq!(p.roles["layer"], "language_model.model.layers.*");
    assert_eq!(p.n_layers, 2);
    assert!(p.hooks.iter().any(|(name, _)| name == "language_model.model.layers.1.self_attn.z"));
}

/// How a layout spells a name of the language model.
type Spelling<'a> = &'a dyn Fn(&str) -> String;

/// Compiles a multimodal checkpoint of type `t`; `spell` puts the language model's names into some layout's spelling.
fn compile_wrapped(t: &str, text: Value, spell: impl Fn(&str) -> String, others: &[&str]) -> Result<Program> {
    let config = normalise(json!({"model_type": t, "text_config": text}))?;
    let mut tensors: Shapes = shapes().into_iter().map(|(name, shape)| (spell(&name), shape)).collect();
    tensors.insert(spell("lm_head.weight"), vec![100, 32]);
    tensors.extend(others.iter().map(|name| ((*name).to_owned(), vec![3, 3])));
    let infos = tensors.into_iter().map(|(n, shape)| (n, TensorInfo { shape, dtype: "F32".to_owned() })).collect();
    let d = for_model_type(t)?;
    let plan = plan_weights(&d, &config, &infos)?;
    let shapes = plan.iter().map(|(n, w)| w.shape(&infos).map(|s| (n.clone(), s))).collect::<Result<_>>()?;
    elaborate(&d, &config, &shapes)
}

#[test]
fn every_layout_of_a_multimodal_checkpoint_reads_the_same() {
    let mlx = |n: &str| format!("language_model.{n}");
    let five = |n: &str| n.strip_prefix("model.").map_or(n.to_owned(), |rest| format!("model.language_model.{rest}"));
    let same = |n: &str| n.to_owned();
    let layouts: [(&str, Spelling<'_>, &[&str]); 5] = [
        ("mlx-lm", &mlx, &[]),
        ("mlx-lm with its towers", &mlx, &["vision_tower.a.weight", "multi_modal_projector.linear_1.bias"]),
        ("transformers 5", &five, &["model.visual.blocks.0.weight", "model.multi_modal_projector.norm.weight"]),
        ("transformers 4, LLaVA", &mlx, &["vision_tower.vision_model.x", "multi_modal_projector.linear_2.weight"]),
        ("transformers 4, Qwen 2 VL", &same, &["visual.merger.mlp.0.bias"]),
    ];
    let mut text = config();
    text["tie_word_embeddings"] = json!(false);
    let first = compile_wrapped("qwen2_vl", text.clone(), mlx, &[]).unwrap();
    assert_eq!(first.roles["layer"], "language_model.model.layers.*");
    assert!(first.tensors.contains(&"language_model.lm_head.weight".to_owned()));
    for (what, spell, others) in layouts {
        let p = compile_wrapped("qwen2_vl", text.clone(), spell, others).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(p.instrs, first.instrs, "{what}");
        assert_eq!(p.hooks, first.hooks, "{what}");
    }
}

#[test]
fn the_rules_inside_do_not_see_the_wrapper_s_path() {
    // Llama drops a head that the config ties, and rotary buffers: here both stand under language_model.
    let mlx = |n: &str| format!("language_model.{n}");
    let rotary = ["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"];
    let p = compile_wrapped("llava", config(), mlx, &rotary).unwrap();
    assert!(!p.tensors.iter().any(|t| t.contains("lm_head") || t.contains("inv_freq")));
}

#[test]
fn the_language_model_s_own_type_decides_what_is_inside() {
    let mlx = |n: &str| format!("language_model.{n}");
    let mut text = config();
    text["tie_word_embeddings"] = json!(false);
    text["model_type"] = json!("smollm3");
    let p = compile_wrapped("llava", text.clone(), mlx, &[]).unwrap();
    assert_eq!(p.arch, "smollm3");
    // One that is named after the wrapper is the wrapper's own.
    text["model_type"] = json!("qwen3_vl_text");
    text["head_dim"] = json!(8);
    assert_eq!(compile_wrapped("qwen3_vl", text.clone(), mlx, &[]).unwrap().arch, "llama");
    text["model_type"] = json!("secret");
    let e = compile_wrapped("llava", text, mlx, &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(
        e.message()
            .starts_with("'multimodal' wraps a language model of type 'secret' (text_config.model_type), which has"),
        "{e}"
    );
}
