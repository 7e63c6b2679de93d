use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::core::weights::testing::safetensors as file;
use crate::error::ErrorKind;

fn shard(names: &[&str]) -> Vec<u8> {
    let entries = names
        .iter()
        .enumerate()
        .map(|(i, n)| (n.to_string(), json!({"dtype": "U8", "shape": [4], "data_offsets": [4 * i, 4 * i + 4]})));
    let data: Vec<u8> = (0..4 * names.len() as u8).collect();
    file(&Value::Object(entries.collect()), &data)
}

fn directory(files: &[(&str, Vec<u8>)]) -> TempDir {
    let at = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(at.path().join(name), bytes).unwrap();
    }
    at
}

fn indexed(map: Value, files: &[(&str, Vec<u8>)]) -> TempDir {
    let at = directory(files);
    fs::write(at.path().join(INDEX), json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    at
}

fn fails(at: &Path, kind: ErrorKind, parts: &[&str]) -> Error {
    let e = open(at).unwrap_err();
    assert_eq!(e.kind(), kind, "{e}");
    for part in parts {
        assert!(e.message().contains(part), "{e} lacks {part:?}");
    }
    e
}

#[test]
fn one_file_or_shards_without_an_index() {
    let at = directory(&[("model.safetensors", shard(&["a", "b"]))]);
    let tensors = open(at.path()).unwrap();
    assert_eq!(tensors["b"].bytes(), [4, 5, 6, 7]);
    let at = directory(&[
        ("model-00001-of-00002.safetensors", shard(&["a"])),
        ("model-00002-of-00002.safetensors", shard(&["b"])),
        ("other.safetensors", b"not read".to_vec()),
    ]);
    assert_eq!(open(at.path()).unwrap().len(), 2);
}

#[test]
fn released_pages_read_the_same() {
    let at = directory(&[("model.safetensors", shard(&["a", "b"]))]);
    let tensors = open(at.path()).unwrap();
    let before = tensors["b"].bytes().to_vec();
    tensors["b"].release_pages();
    assert_eq!(tensors["b"].bytes(), before);
}

#[test]
fn an_index_is_followed_and_checked() {
    let files = [("x.safetensors", shard(&["a"])), ("y.safetensors", shard(&["b"]))];
    let at = indexed(json!({"a": "x.safetensors", "b": "y.safetensors"}), &files);
    assert_eq!(open(at.path()).unwrap().len(), 2);
    let at = indexed(json!({"a": "x.safetensors", "c": "y.safetensors"}), &files);
    fails(at.path(), ErrorKind::Corrupt, &["index.json", "`c`", "`y.safetensors`, which does not have it"]);
    let at = indexed(json!({"a": "y.safetensors", "b": "x.safetensors"}), &files);
    fails(at.path(), ErrorKind::Corrupt, &["`a` is said to be in `y.safetensors`, but is in `x.safetensors`"]);
    let at = indexed(json!({"a": "x.safetensors", "b": "z.safetensors"}), &files);
    fails(at.path(), ErrorKind::NotFound, &["1 of 2 weight files are missing", "`z.safetensors`"]);
}

#[test]
fn an_index_cannot_lead_outside() {
    let outside = directory(&[("secret.safetensors", shard(&["a"]))]);
    let absolute = outside.path().join("secret.safetensors").display().to_string();
    let up = format!("../{}/secret.safetensors", outside.path().file_name().unwrap().display());
    for name in [absolute.as_str(), &up, "..", "sub/../../x", "", ".", "a\\..\\b", "C:x", "/"] {
        let at = indexed(json!({"a": name}), &[]);
        fails(at.path(), ErrorKind::Corrupt, &["tensor `a`", "outside the model's directory"]);
    }
}

#[cfg(unix)]
#[test]
fn links_as_in_the_hub_cache_are_followed() {
    let cache = directory(&[("blob", shard(&["a"]))]);
    let snapshot = cache.path().join("snapshots");
    fs::create_dir(&snapshot).unwrap();
    std::os::unix::fs::symlink("../blob", snapshot.join("model.safetensors")).unwrap();
    assert_eq!(open(&snapshot).unwrap().len(), 1);
    fs::write(snapshot.join(INDEX), json!({"weight_map": {"a": "model.safetensors"}}).to_string()).unwrap();
    assert_eq!(open(&snapshot).unwrap().len(), 1);
    fs::remove_file(cache.path().join("blob")).unwrap();
    fails(&snapshot, ErrorKind::NotFound, &["`model.safetensors`", "missing"]);
}

#[test]
fn a_broken_index_is_an_error() {
    for (text, part) in [
        ("{", "not valid JSON"),
        ("[]", "`weight_map` is missing"),
        (r#"{"weight_map": []}"#, "not an object"),
        (r#"{"weight_map": {"a": 7}}"#, "not a string"),
    ] {
        let at = directory(&[(INDEX, text.as_bytes().to_vec())]);
        fails(at.path(), ErrorKind::Corrupt, &[part, "index.json"]);
    }
}

#[test]
fn wrong_paths_say_what_is_there() {
    let at = directory(&[]);
    fails(&at.path().join("gone"), ErrorKind::NotFound, &["there is no directory", "gone"]);
    fails(at.path(), ErrorKind::NotFound, &["it is empty"]);
    fs::write(at.path().join("pytorch_model.bin"), b"").unwrap();
    fails(at.path(), ErrorKind::NotFound, &["convert them to safetensors"]);
    fails(&at.path().join("pytorch_model.bin"), ErrorKind::InvalidArgument, &["is a file"]);
    fs::write(at.path().join("m.gguf"), b"").unwrap();
    fails(at.path(), ErrorKind::NotFound, &["`m.gguf`"]);
}

#[test]
fn a_broken_or_repeated_shard_is_named() {
    let at = directory(&[("model-1.safetensors", shard(&["a"])), ("model-2.safetensors", shard(&["a"]))]);
    fails(at.path(), ErrorKind::Corrupt, &["`a` is in both `model-1.safetensors` and `model-2.safetensors`"]);
    let at = directory(&[("model-1.safetensors", shard(&["a"])), ("model-2.safetensors", b"short".to_vec())]);
    fails(at.path(), ErrorKind::Corrupt, &["model-2.safetensors", "too few"]);
    let at = directory(&[("model.safetensors", Vec::new())]);
    fails(at.path(), ErrorKind::Corrupt, &["model.safetensors", "0 bytes"]);
    fs::remove_file(at.path().join("model.safetensors")).unwrap();
    fs::create_dir(at.path().join("model.safetensors")).unwrap();
    fails(at.path(), ErrorKind::InvalidArgument, &["not a regular file"]);
}
