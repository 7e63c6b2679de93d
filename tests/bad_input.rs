//! Bad input, end to end: a clear error, the process alive, and the model usable afterwards.

mod support;

use std::path::{Path, PathBuf};

use mlxterp::ErrorKind;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Dtype;
use support::*;

/// A copy of a tiny checkpoint that may be damaged.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixture(&format!("tiny/{name}"))).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Copy(dir)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), bytes).unwrap();
    }

    /// Changes one entry of config.json; null removes it.
    fn configure(&self, key: &str, value: serde_json::Value) {
        let text = std::fs::read_to_string(self.path("config.json")).unwrap();
        let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        if value.is_null() {
            config.remove(key);
        } else {
            config.insert(key.to_owned(), value);
        }
        self.write("config.json", serde_json::to_string(&config).unwrap());
    }

    #[track_caller]
    fn refused(&self, kind: ErrorKind, texts: &[&str]) {
        refused(self.0.path(), kind, texts);
    }
}

#[track_caller]
fn refused(path: &Path, kind: ErrorKind, texts: &[&str]) {
    let error = match Model::load(path.to_str().unwrap()) {
        Ok(_) => panic!("{} loads", path.display()),
        Err(e) => e,
    };
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts {
        assert!(error.message().contains(text), "'{text}' is not in: {error}");
    }
}

#[test]
fn paths_that_lead_nowhere() {
    refused(Path::new("/no/such/model"), ErrorKind::NotFound, &["/no/such/model"]);
    refused(Path::new("/no/such/model.gguf"), ErrorKind::NotFound, &["model.gguf"]);
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), ErrorKind::NotFound, &["safetensors"]);
    assert_eq!(Model::load("").err().unwrap().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn damaged_weights() {
    let whole = std::fs::read(fixture("tiny/llama/model.safetensors")).unwrap();
    let copy = Copy::of("llama");
    copy.write("model.safetensors", &whole[..whole.len() / 2]);
    copy.refused(ErrorKind::Corrupt, &["model.safetensors"]);
    copy.write("model.safetensors", &whole[..4]);
    copy.refused(ErrorKind::Corrupt, &["model.safetensors"]);
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    copy.write("model.safetensors", &huge);
    copy.refused(ErrorKind::Corrupt, &["header"]);
    let text = String::from_utf8_lossy(&whole[8..]).into_owned();
    assert!(text.contains("F32"));
    let mut dtype = whole.clone();
    let at = whole.windows(5).position(|w| w == b"\"F32\"").unwrap();
    dtype[at + 1..at + 4].copy_from_slice(b"Q99");
    copy.write("model.safetensors", &dtype);
    copy.refused(ErrorKind::Corrupt, &["Q99"]);
}

#[test]
fn an_index_that_points_outside() {
    let copy = Copy::of("llama_sharded");
    let index = std::fs::read_to_string(copy.path("model.safetensors.index.json")).unwrap();
    let mut parsed: serde_json::Value = serde_json::from_str(&index).unwrap();
    let first = parsed["weight_map"].as_object_mut().unwrap().values_mut().next().unwrap();
    *first = "../../secret.safetensors".into();
    copy.write("model.safetensors.index.json", parsed.to_string());
    copy.refused(ErrorKind::Corrupt, &["../../secret.safetensors"]);
}

#[test]
fn configs_with_missing_or_absurd_values() {
    let cases = [
        ("model_type", serde_json::Value::Null, ErrorKind::Config),
        ("model_type", "no_such_model".into(), ErrorKind::Unsupported),
        ("num_hidden_layers", serde_json::Value::Null, ErrorKind::Config),
        ("num_hidden_layers", 1_000_000_000_000u64.into(), ErrorKind::Config),
        ("num_attention_heads", 0.into(), ErrorKind::Config),
        ("num_attention_heads", (-3).into(), ErrorKind::Config),
        ("num_attention_heads", "four".into(), ErrorKind::Config),
        ("rms_norm_eps", "tiny".into(), ErrorKind::Config),
    ];
    for (key, value, kind) in cases {
        let copy = Copy::of("llama");
        copy.configure(key, value);
        copy.refused(kind, &[key]);
    }
    let copy = Copy::of("llama");
    copy.write("config.json", "{");
    copy.refused(ErrorKind::Corrupt, &["config.json"]);
    let copy = Copy::of("llama");
    copy.configure("vocab_size", serde_json::Value::Null);
    let model = load(copy.0.path(), &LoadOptions::default());
    assert_eq!(model.vocab_size(), 64);
}

#[test]
fn a_vocabulary_larger_than_the_embedding() {
    // Unchecked, ids beyond the embedding would read foreign memory.
    let copy = Copy::of("llama");
    copy.configure("vocab_size", 100_000.into());
    let model = load(copy.0.path(), &LoadOptions::default());
    let error = model.forward(vec![70_000u32]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    model.forward(vec![1u32]).unwrap().eval().unwrap();
}

#[test]
fn an_unsupported_type_says_which_is_near_and_how_to_add_one() {
    let copy = Copy::of("llama");
    copy.configure("model_type", "llamma".into());
    copy.refused(
        ErrorKind::Unsupported,
        &["llamma", "did you mean 'llama'", "fit, best first: 'llama' (reads", "arch='llama'"],
    );
    // Handed in at run time, a description drives it.
    let options = LoadOptions { description: Some("arch llamma from llama".into()), ..LoadOptions::default() };
    let model = load(copy.0.path(), &options);
    let expected = Expected::read(&fixture("tiny/llama/expected.safetensors"));
    assert_close(&values(&model.forward(expected.ids("ids")).unwrap()), expected.get("logits"), 1e-5, "llamma");
    let options =
        LoadOptions { description: Some("arch broken from llama\n\nMain(ids:\n".into()), ..LoadOptions::default() };
    let error = Model::load_with(copy.0.path().to_str().unwrap(), &options, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Description);
    assert!(error.message().contains("line 3"), "{error}");
}

#[test]
fn a_checkpoint_without_a_tokenizer_takes_token_ids_only() {
    let model = tiny("llama");
    let error = model.trace("text").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("tokenizer.json"), "{error}");
    model.forward(vec![1u32, 2]).unwrap().eval().unwrap();
}

#[test]
fn tensors_that_are_missing_or_unused() {
    let copy = Copy::of("llama");
    copy.configure("num_hidden_layers", 1.into());
    let error = Model::load(copy.0.path().to_str().unwrap()).err().unwrap();
    assert!(error.message().contains("model.layers.1"), "{error}");
    let copy = Copy::of("llama");
    copy.configure("num_hidden_layers", 3.into());
    let error = Model::load(copy.0.path().to_str().unwrap()).err().unwrap();
    assert!(error.message().contains("model.layers.2"), "{error}");
}

#[test]
fn quantisation_that_contradicts_the_shapes() {
    let copy = Copy::of("llama_4bit_g32");
    copy.configure("quantization", serde_json::json!({ "group_size": 64, "bits": 8 }));
    copy.refused(ErrorKind::Corrupt, &["8-bit", "64"]);
    let copy = Copy::of("llama_4bit_g32");
    copy.configure("quantization", serde_json::Value::Null);
    copy.configure("quantization_config", serde_json::Value::Null);
    copy.refused(ErrorKind::Config, &["quantization"]);
}

#[test]
fn a_dtype_no_model_computes_in() {
    let options = LoadOptions { dtype: Some(Dtype::Int32), ..LoadOptions::default() };
    let path = fixture("tiny/llama");
    let error = Model::load_with(path.to_str().unwrap(), &options, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_load_can_be_cancelled() {
    let path = fixture("tiny/llama");
    let mut calls = 0;
    let mut stop = |_| {
        calls += 1;
        false
    };
    let error = Model::load_with(path.to_str().unwrap(), &LoadOptions::default(), Some(&mut stop)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Callback);
    assert_eq!(calls, 1);
}

#[test]
fn truncated_gguf_files() {
    let whole = std::fs::read(smollm2_path()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    for keep in [0, 3, 24, 1000, 1_000_000, whole.len() - 1000] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        refused(&path, ErrorKind::Corrupt, &["model.gguf"]);
    }
}
