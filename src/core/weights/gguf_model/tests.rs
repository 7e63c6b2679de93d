use serde_json::json;

use super::*;
use crate::core::weights::testing::GgufParts;
use crate::error::{Error, ErrorKind};

const HIDDEN: u64 = 32;

/// A model of two blocks with two query heads and one key head of 16 dimensions.
fn model(architecture: &str) -> GgufParts {
    let key = |k: &str| format!("{architecture}.{k}");
    let mut parts = GgufParts::default()
        .str("general.architecture", architecture)
        .u32(&key("block_count"), 2)
        .u32(&key("context_length"), 256)
        .u32(&key("embedding_length"), HIDDEN as u32)
        .u32(&key("feed_forward_length"), 64)
        .u32(&key("attention.head_count"), 2)
        .u32(&key("attention.head_count_kv"), 1)
        .u32(&key("rope.dimension_count"), 16)
        .f32(&key("rope.freq_base"), 100000.0)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    parts = f32s(parts, "token_embd.weight", &[HIDDEN, 5]);
    parts = f32s(parts, "output_norm.weight", &[HIDDEN]);
    for layer in 0..2 {
        for (name, dims) in [
            ("attn_norm", &[HIDDEN][..]),
            ("ffn_norm", &[HIDDEN]),
            ("attn_q", &[HIDDEN, 32]),
            ("attn_k", &[HIDDEN, 16]),
            ("attn_v", &[HIDDEN, 16]),
            ("attn_output", &[32, HIDDEN]),
            ("ffn_gate", &[HIDDEN, 64]),
            ("ffn_up", &[HIDDEN, 64]),
            ("ffn_down", &[64, HIDDEN]),
        ] {
            parts = f32s(parts, &format!("blk.{layer}.{name}.weight"), dims);
        }
    }
    parts
}

/// Adds a float32 tensor whose first elements of rows count up.
fn f32s(parts: GgufParts, name: &str, dims: &[u64]) -> GgufParts {
    let columns = dims[0] as usize;
    let n: usize = dims.iter().product::<u64>() as usize;
    let number = |i: usize| if i.is_multiple_of(columns) { (i / columns) as f32 } else { 0.5 };
    let bytes: Vec<u8> = (0..n).flat_map(|i| number(i).to_le_bytes()).collect();
    parts.tensor(name, dims, 0, &bytes)
}

fn read(parts: &GgufParts) -> Result<GgufModel> {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("model.gguf");
    std::fs::write(&path, parts.bytes()).unwrap();
    let result = GgufModel::read(&Checkpoint::open_gguf(&path)?);
    if let Err(e) = &result {
        let path = path.display().to_string();
        assert_eq!(e.message().matches(&path).count(), 1, "{e} should name the file once");
    }
    result
}

fn refusal(parts: &GgufParts, kind: ErrorKind, part: &str) -> Error {
    let e = read(parts).unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
    assert!(e.message().contains(part), "{e} lacks {part:?}");
    e
}

fn without(mut parts: GgufParts, key: &str) -> GgufParts {
    parts.pairs.retain(|(k, ..)| k != key);
    parts
}

/// The first element of each row.
fn row_numbers(t: &PlacedTensor) -> Vec<f32> {
    let stride = t.raw.shape().get(1).copied().unwrap_or(1) * 4;
    t.bytes().chunks_exact(stride).map(|row| f32::from_le_bytes([row[0], row[1], row[2], row[3]])).collect()
}

#[test]
fn a_llama_file_speaks_as_a_directory() {
    let m = read(&model("llama")).unwrap();
    let expected = json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "max_position_embeddings": 256, "vocab_size": 5,
        "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
        "bos_token_id": 1, "eos_token_id": 2,
    });
    assert_eq!(m.config, expected);
    assert_eq!(m.tensors.len(), 20);
    let q = &m.tensors["model.layers.1.self_attn.q_proj.weight"];
    assert_eq!((q.source.as_str(), q.raw.shape()), ("blk.1.attn_q.weight", &[32, 32][..]));
    assert_eq!(m.tensors["model.layers.0.mlp.down_proj.weight"].raw.shape(), [32, 64]);
    for name in ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.post_attention_layernorm.weight"] {
        assert!(m.tensors.contains_key(name), "{name}");
    }
}

#[test]
fn rows_of_q_and_k_go_back_to_their_places() {
    let parts = f32s(model("llama"), "blk.0.attn_q.bias", &[32]);
    let m = read(&parts).unwrap();
    assert_eq!(m.config["attention_bias"], true);
    // The file's order of a head with halves a and b is a0 b0 a1 b1 …: every second row makes the first half.
    let head = [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15].map(|i| i as f32);
    assert_eq!(row_numbers(&m.tensors["model.layers.0.self_attn.k_proj.weight"]), head);
    let q = row_numbers(&m.tensors["model.layers.0.self_attn.q_proj.weight"]);
    assert_eq!(q[..16], head);
    assert_eq!(q[16..], head.map(|i| i + 16.0));
    let v = &m.tensors["model.layers.0.self_attn.v_proj.weight"];
    assert!(v.rows.is_none() && matches!(v.bytes(), Cow::Borrowed(_)));
    assert!(m.tensors["model.layers.0.self_attn.q_proj.bias"].rows.is_some());
}

#[test]
fn only_llama_rows_were_permuted() {
    for architecture in ["qwen2", "qwen3"] {
        let mut parts = f32s(model(architecture), "output.weight", &[HIDDEN, 5]);
        if architecture == "qwen3" {
            parts = f32s(parts, "blk.0.attn_q_norm.weight", &[16]).u32("qwen3.attention.key_length", 16);
        }
        let m = read(&parts).unwrap();
        assert_eq!(m.config["model_type"], architecture);
        assert_eq!(m.config["tie_word_embeddings"], false);
        assert!(m.tensors.contains_key("lm_head.weight"));
        assert!(m.tensors.values().all(|t| t.rows.is_none()));
        assert_eq!(m.tensors.contains_key("model.layers.0.self_attn.q_norm.weight"), architecture == "qwen3");
    }
}

/// Adds tensors to both blocks.
fn and(mut parts: GgufParts, names: &[&str], dims: &[u64]) -> GgufParts {
    for name in names {
        for layer in 0..2 {
            parts = f32s(parts, &format!("blk.{layer}.{name}"), dims);
        }
    }
    parts
}

#[test]
fn gemma_s_norms_are_stored_less_one() {
    let parts = and(model("gemma3"), &["post_attention_norm.weight", "post_ffw_norm.weight"], &[HIDDEN]);
    let parts = and(parts, &["attn_q_norm.weight", "attn_k_norm.weight"], &[16]);
    let parts = parts.u32("gemma3.attention.sliding_window", 512).u32("gemma3.attention.key_length", 16);
    let m = read(&parts).unwrap();
    for (name, t) in &m.tensors {
        let shift = if name.contains("norm") { -1.0 } else { 0.0 };
        assert_eq!((t.shift, t.rows.is_none()), (shift, true), "{name}");
    }
    for name in ["pre_feedforward_layernorm", "post_feedforward_layernorm", "self_attn.k_norm"] {
        assert!(m.tensors.contains_key(&format!("model.layers.1.{name}.weight")), "{name}");
    }
    assert_eq!(m.config["model_type"], "gemma3_text");
    assert_eq!(m.config["query_pre_attn_scalar"], 16);
    assert_eq!(m.config["sliding_window"], 512);
    assert!(m.wide);
}

#[test]
fn the_fused_rows_of_gpt_neox_go_back_to_their_heads() {
    let mut parts = GgufParts::default();
    for (key, n) in [("block_count", 1), ("context_length", 64), ("embedding_length", 8), ("feed_forward_length", 16)] {
        parts = parts.u32(&format!("gptneox.{key}"), n);
    }
    let parts = parts
        .str("general.architecture", "gptneox")
        .u32("gptneox.attention.head_count", 2)
        .u32("gptneox.rope.dimension_count", 2)
        .f32("gptneox.attention.layer_norm_epsilon", 1e-5);
    let parts = f32s(f32s(parts, "token_embd.weight", &[8, 5]), "blk.0.attn_qkv.weight", &[8, 24]);
    let m = read(&f32s(parts, "blk.0.attn_qkv.bias", &[24])).unwrap();
    // Two heads of four: in the file q0 q1 k0 k1 v0 v1, in the model q0 k0 v0 q1 k1 v1.
    let heads = [0, 8, 16, 4, 12, 20];
    let expected: Vec<f32> = heads.iter().flat_map(|h| (*h..h + 4).map(|i| i as f32)).collect();
    assert_eq!(row_numbers(&m.tensors["model.h.0.attention.query_key_value.weight"]), expected);
    assert!(m.tensors["model.h.0.attention.query_key_value.bias"].rows.is_some());
    assert_eq!(m.config["rotary_pct"], 0.5);
    assert_eq!(apart_permutation(23, 2), None);
}

#[test]
fn quantised_rows_move_as_whole_blocks() {
    let bytes: Vec<u8> = (0..4 * 36).map(|i| (i / 36) as u8).collect();
    let order = row_permutation(4, 1).unwrap();
    assert_eq!(order, [0, 2, 1, 3]);
    let moved = permute_rows(&bytes, &order);
    assert_eq!(moved.chunks(36).map(|row| row[35]).collect::<Vec<_>>(), [0, 2, 1, 3]);
    for (rows, heads) in [(4, 0), (4, 3), (6, 2), (0, 1)] {
        assert_eq!(row_permutation(rows, heads), None);
    }
}

#[test]
fn rope_scalings_are_stated() {
    let factors: Vec<u8> = (10..18u8).flat_map(|i| (f32::from(i) / 10.0).to_le_bytes()).collect();
    let m = read(&model("llama").tensor("rope_freqs.weight", &[8], 0, &factors)).unwrap();
    let expected = json!([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]);
    assert_eq!(m.config["rope_scaling"], json!({"rope_type": "factors", "factors": expected}));
    assert!(!m.tensors.keys().any(|name| name.contains("rope")));

    let scaled = |kind| model("llama").str("llama.rope.scaling.type", kind).f32("llama.rope.scaling.factor", 4.0);
    assert_eq!(read(&scaled("linear")).unwrap().config["rope_scaling"], json!({"rope_type": "linear", "factor": 4.0}));
    let yarn = scaled("yarn").u32("llama.rope.scaling.original_context_length", 64);
    let expected = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64});
    assert_eq!(read(&yarn).unwrap().config["rope_scaling"], expected);
    assert!(read(&scaled("none")).unwrap().config.get("rope_scaling").is_none());
    refusal(&scaled("longrope"), ErrorKind::Unsupported, "`longrope`");
    let alpha = yarn.f32("llama.rope.scaling.alpha", 2.0);
    refusal(&alpha, ErrorKind::Unsupported, "llama.rope.scaling.alpha");
    for (n, kind) in [(7, ErrorKind::Corrupt), (9, ErrorKind::Corrupt)] {
        let parts = model("llama").tensor("rope_freqs.weight", &[n], 0, &vec![0; n as usize * 4]);
        refusal(&parts, kind, "where [8] is expected");
    }
    let zeros = model("llama").tensor("rope_freqs.weight", &[8], 0, &[0; 32]);
    refusal(&zeros, ErrorKind::Corrupt, "positive factors");
}

#[test]
fn missing_and_absurd_metadata_are_named() {
    let e = refusal(&model("gemma9"), ErrorKind::Unsupported, "architecture `gemma9`");
    assert!(e.message().contains("llama, qwen2, qwen3"), "{e}");
    refusal(&without(model("llama"), "general.architecture"), ErrorKind::Config, "`general.architecture` is missing");
    for key in ["embedding_length", "attention.head_count", "context_length", "attention.layer_norm_rms_epsilon"] {
        let key = format!("llama.{key}");
        refusal(&without(model("llama"), &key), ErrorKind::Config, &format!("`{key}` is missing"));
    }
    let with = |key: &str, n: u32| without(model("llama"), key).u32(key, n);
    refusal(&with("llama.attention.head_count", 0), ErrorKind::Config, "`llama.attention.head_count` is 0");
    refusal(&with("llama.attention.head_count_kv", 0), ErrorKind::Config, "head_count_kv` is 0");
    refusal(&with("llama.attention.head_count", 3), ErrorKind::Config, "3 attention heads do not divide");
    refusal(&with("llama.attention.head_count_kv", 3), ErrorKind::Config, "cannot share 3 key");
    refusal(&with("llama.block_count", u32::MAX), ErrorKind::Corrupt, "holds tensors of 2 blocks");
    refusal(&with("llama.embedding_length", 64), ErrorKind::Unsupported, "rope.dimension_count` is 16");
    refusal(&with("llama.expert_count", 8), ErrorKind::Unsupported, "mixture of 8 experts");
    assert!(read(&with("llama.expert_count", 0)).is_ok());
    let eps = |x| without(model("llama"), "llama.rope.freq_base").f32("llama.rope.freq_base", x);
    for x in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        refusal(&eps(x), ErrorKind::Config, "`llama.rope.freq_base` must be a positive number");
    }
    let strings = without(model("llama"), "llama.block_count").str("llama.block_count", "two");
    refusal(&strings, ErrorKind::Config, "`llama.block_count` should be a non-negative integer");
}

#[test]
fn tensors_without_a_place_are_named() {
    let with = |name: &str| f32s(model("llama"), name, &[HIDDEN]);
    for name in ["blk.0.ffn_gate_exps.weight", "blk.0.attn_q_norm.weight", "blk.0.attn_norm.bias", "cls.weight"] {
        refusal(&with(name), ErrorKind::Unsupported, &format!("tensor `{name}` has no place in a llama model"));
    }
    refusal(&with("blk.0.attn_q"), ErrorKind::Unsupported, "`blk.0.attn_q`");
    refusal(&with("blk.7.attn_norm.weight"), ErrorKind::Corrupt, "3 blocks");
    let mut parts = model("llama");
    parts.tensors.retain(|t| t.0 != "token_embd.weight");
    refusal(&parts, ErrorKind::Corrupt, "no tensor `token_embd.weight`");
    let mut parts = model("llama");
    parts.tensors.iter_mut().filter(|t| t.0.starts_with("blk.1.")).for_each(|t| t.0 = t.0.replace("blk.1", "blk.9"));
    refusal(&parts, ErrorKind::Corrupt, "belongs to block 9, but there are 2");
    let mut parts = model("llama");
    parts.tensors.iter_mut().filter(|t| t.0 == "blk.0.attn_q.weight").for_each(|t| t.1 = vec![HIDDEN, 31]);
    refusal(&parts, ErrorKind::Corrupt, "`blk.0.attn_q.weight` has 31 rows, which 2 heads");
}

#[test]
fn parts_of_a_split_file_are_refused() {
    let part = model("llama").pair("split.count", 2, 3u16.to_le_bytes());
    refusal(&part, ErrorKind::Unsupported, "one of 3 parts");
}

#[test]
fn what_is_not_a_gguf_file_says_so() {
    let at = tempfile::tempdir().unwrap();
    let e = Checkpoint::open_gguf(at.path().join("gone.gguf")).unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.message().contains("gone.gguf"), "{e}");
    let e = Checkpoint::open_gguf(at.path()).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidArgument && e.message().contains("not a regular file"), "{e}");
    let path = at.path().join("m.gguf");
    std::fs::write(&path, b"").unwrap();
    let e = Checkpoint::open_gguf(&path).unwrap_err();
    assert!(e.kind() == ErrorKind::Corrupt && e.message().contains("m.gguf: the magic number"), "{e}");
    std::fs::write(&path, [b"\x10\0\0\0\0\0\0\0{}".as_slice(), &[b' '; 14]].concat()).unwrap();
    let e = Checkpoint::open_gguf(&path).unwrap_err();
    assert!(e.message().contains("not a GGUF file"), "{e}");
}
