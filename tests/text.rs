//! Tokenizers: ids equal to those of other implementations, roles of special tokens, and what bad input is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlxterp::ErrorKind;
use mlxterp::core::text::Tokenizer;
use mlxterp::core::weights::gguf::Gguf;
use mlxterp::core::weights::metadata::{MetaArray, MetaValue, Metadata};
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> Value {
    let path = root().join("tests/fixtures/text").join(name);
    serde_json::from_slice(&std::fs::read(&path).expect(name)).expect(name)
}

fn smollm2() -> Tokenizer {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; fetch the model with `cargo xtask fetch-model`", path.display()));
    Tokenizer::from_gguf(&Gguf::parse(&bytes, "SmolLM2").unwrap().metadata).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn smollm2_gives_the_ids_and_pieces_of_the_reference() {
    let tokenizer = smollm2();
    let expected = fixture("token_ids.json");
    assert_eq!(tokenizer.vocab_size() as u64, expected["vocab_size"].as_u64().unwrap());
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() >= 60);
    let mut rows = Vec::new();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let wanted = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text, true).unwrap(), wanted, "{text:?}");
        // SmolLM2 adds nothing around a text.
        assert_eq!(tokenizer.encode_prompt(text).unwrap(), wanted, "{text:?}");
        assert_eq!(tokenizer.to_str_tokens(text).unwrap(), strings(&case["pieces"]), "{text:?}");
        assert_eq!(tokenizer.decode(&wanted, false).unwrap(), text);
        assert_eq!(tokenizer.decode(&wanted, true).unwrap(), case["without_special"].as_str().unwrap());
        rows.push((text, wanted));
    }
    let texts: Vec<&str> = rows.iter().map(|(text, _)| *text).collect();
    let batch = tokenizer.encode_batch(&texts, true).unwrap();
    assert!(batch.iter().zip(&rows).all(|(ids, (_, wanted))| ids == wanted));
}

#[test]
fn smollm2_knows_its_special_tokens() {
    let tokenizer = smollm2();
    assert_eq!(tokenizer.encode("The capital of France is", true).unwrap(), [504, 3575, 282, 4649, 314]);
    assert_eq!((tokenizer.bos_id(), tokenizer.pad_id()), (Some(1), Some(2)));
    assert_eq!(tokenizer.eos_ids().iter().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(tokenizer.special_tokens().bos_token.as_deref(), Some("<|im_start|>"));
    assert!(tokenizer.chat_template().unwrap().contains("<|im_start|>"));
    assert_eq!(tokenizer.token_to_id("ĠParis"), Some(7042));
    assert_eq!(tokenizer.id_to_token(7042).unwrap(), "ĠParis");
    assert_eq!(tokenizer.token_to_str(7042).unwrap(), " Paris");
}

#[test]
fn an_id_out_of_range_is_named_with_the_size_of_the_vocabulary() {
    let tokenizer = smollm2();
    let errors = [tokenizer.decode(&[504, 49152], true).err(), tokenizer.token_to_str(49152).err()];
    for error in errors.map(Option::unwrap) {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains("49152 is out of range"), "{error}");
        assert!(error.message().contains("has 49152 tokens"), "{error}");
    }
    assert!(tokenizer.decode(&[49151], false).is_ok());
}

#[test]
fn very_long_runs_do_not_derail_the_pattern() {
    let tokenizer = smollm2();
    let text = format!("a{}b{}c", " ".repeat(200_000), "9".repeat(10_000));
    let ids = tokenizer.encode(&text, false).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
    let nine = tokenizer.token_to_id("9").unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == nine).count(), 10_000);
}

fn strs(list: &[&str]) -> MetaValue {
    MetaValue::Array(MetaArray::Strs(list.iter().map(|s| s.to_string()).collect()))
}

fn metadata(pairs: Vec<(&str, MetaValue)>) -> Metadata {
    let values: BTreeMap<String, MetaValue> =
        pairs.into_iter().map(|(k, v)| (format!("tokenizer.ggml.{k}"), v)).collect();
    Metadata::new(values, "test.gguf")
}

fn small_sentencepiece(expected: &Value) -> Vec<(&'static str, MetaValue)> {
    let floats = expected["scores"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let types = expected["token_type"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    let id = |name: &str| MetaValue::UInt(expected[name].as_u64().unwrap());
    vec![
        ("model", MetaValue::Str("llama".into())),
        ("tokens", MetaValue::Array(MetaArray::Strs(strings(&expected["tokens"])))),
        ("scores", MetaValue::Array(MetaArray::Floats(floats))),
        ("token_type", MetaValue::Array(MetaArray::Ints(types))),
        ("bos_token_id", id("bos")),
        ("eos_token_id", id("eos")),
        ("unknown_token_id", id("unknown")),
    ]
}

#[test]
fn a_sentencepiece_vocabulary_gives_the_ids_of_sentencepiece() {
    let expected = fixture("sentencepiece.json");
    let tokenizer = Tokenizer::from_gguf(&metadata(small_sentencepiece(&expected))).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() >= 60);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let wanted = ids(&case["ids"]);
        assert_eq!(tokenizer.encode(text, false).unwrap(), wanted, "{text:?}");
        assert_eq!(tokenizer.decode(&wanted, true).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
    }
    // A vocabulary of this kind puts its BOS in front, but not twice.
    let bos = tokenizer.bos_id().unwrap();
    assert_eq!(tokenizer.encode_prompt("Hello").unwrap()[0], bos);
    let written_out = tokenizer.encode_prompt("<s>Hello").unwrap();
    assert_eq!(written_out.iter().filter(|&&id| id == bos).count(), 1);
    let space_led = tokenizer.token_to_id("\u{2581}the").expect("a common word");
    assert_eq!(tokenizer.token_to_str(space_led).unwrap(), " the");
}

fn byte_level() -> Vec<(&'static str, MetaValue)> {
    vec![
        ("model", MetaValue::Str("gpt2".into())),
        ("pre", MetaValue::Str("gpt-2".into())),
        ("tokens", strs(&["a", "b", "ab", "<end>", "<think>"])),
        ("merges", strs(&["a b"])),
        ("token_type", MetaValue::Array(MetaArray::Ints(vec![1, 1, 1, 3, 4]))),
        ("eos_token_id", MetaValue::UInt(3)),
        ("bos_token_id", MetaValue::UInt(3)),
    ]
}

#[test]
fn a_byte_level_vocabulary_follows_its_flags() {
    let plain = Tokenizer::from_gguf(&metadata(byte_level())).unwrap();
    assert_eq!(plain.encode("ab<think>b<end>", true).unwrap(), [2, 4, 1, 3]);
    assert_eq!(plain.decode(&[2, 4, 1, 3], true).unwrap(), "ab<think>b");

    let mut pairs = byte_level();
    pairs.push(("add_bos_token", MetaValue::Bool(true)));
    pairs.push(("add_eos_token", MetaValue::Bool(true)));
    let surrounded = Tokenizer::from_gguf(&metadata(pairs)).unwrap();
    assert_eq!(surrounded.encode("ab", true).unwrap(), [3, 2, 3]);
    assert_eq!(surrounded.encode("ab", false).unwrap(), [2]);
    assert_eq!(surrounded.encode_prompt("<end>ab").unwrap(), [3, 2]);
}

#[test]
fn contradictions_in_a_gguf_vocabulary_are_named() {
    let change = |key: &'static str, value: MetaValue| {
        let mut pairs: Vec<_> = byte_level().into_iter().filter(|(k, _)| *k != key).collect();
        pairs.push((key, value));
        Tokenizer::from_gguf(&metadata(pairs)).unwrap_err()
    };
    let cases = [
        (change("model", MetaValue::Str("rwkv".into())), ErrorKind::Unsupported, "\"rwkv\""),
        (change("pre", MetaValue::Str("exotic".into())), ErrorKind::Unsupported, "known are gpt-2"),
        (change("tokens", strs(&["a", "b", "ab", "a", "x"])), ErrorKind::Corrupt, "two ids, 0 and 3"),
        (change("tokens", strs(&[])), ErrorKind::Corrupt, "is empty"),
        (change("merges", strs(&["ab"])), ErrorKind::Corrupt, "merges[0]"),
        (change("merges", strs(&["b a"])), ErrorKind::Corrupt, "needs \"ba\""),
        // Longer than every token: the tokenizers crate would panic.
        (change("merges", strs(&["<think> <think>"])), ErrorKind::Corrupt, "needs \"<think><think>\""),
        (change("eos_token_id", MetaValue::UInt(5)), ErrorKind::Corrupt, "eos_token_id is 5"),
        (change("token_type", MetaValue::Array(MetaArray::Ints(vec![1]))), ErrorKind::Corrupt, "has 1 entries"),
        (change("tokens", MetaValue::Bool(true)), ErrorKind::Config, "should be an array of strings"),
    ];
    for (error, kind, part) in cases {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part), "{error} should contain {part:?}");
    }
    let error = Tokenizer::from_gguf(&metadata(vec![])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

/// A directory with `files` and a `tokenizer.json` of five words, `<s>` among them as a special token.
fn directory(files: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tokenizer.json", &word_level());
    for (name, value) in files {
        write(dir.path(), name, value);
    }
    dir
}

fn write(dir: &Path, name: &str, value: &Value) {
    std::fs::write(dir.join(name), value.to_string()).unwrap();
}

fn word_level() -> Value {
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "<s>"},
        "added_tokens": [special(0, "<s>"), special(1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"<s>": 0, "</s>": 1, "one": 2, "two": 3, "three": 4}, "unk_token": "</s>"}
    })
}

#[test]
fn a_directory_is_read_as_mlx_lm_reads_it() {
    let dir = directory(&[
        ("tokenizer_config.json", json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "T"})),
        ("config.json", json!({"eos_token_id": 3})),
        ("generation_config.json", json!({"eos_token_id": [2, 4]})),
    ]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    // Neither the file's truncation to two tokens nor its padding to nine applies.
    assert_eq!(tokenizer.encode("one two three", true).unwrap(), [0, 2, 3, 4]);
    assert_eq!(tokenizer.encode("one two three", false).unwrap(), [2, 3, 4]);
    assert_eq!(tokenizer.encode_prompt("<s> one").unwrap(), [0, 2]);
    assert_eq!(tokenizer.encode_prompt("one").unwrap(), [0, 2]);
    assert_eq!(tokenizer.bos_id(), Some(0));
    assert_eq!(tokenizer.eos_ids().iter().copied().collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!((tokenizer.pad_id(), tokenizer.chat_template()), (None, Some("T")));
}

#[test]
fn an_explicit_flag_replaces_the_post_processor() {
    let config = json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false, "add_eos_token": true});
    let dir = directory(&[("tokenizer_config.json", config)]);
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().encode("one", true).unwrap(), [2, 1]);
    let dir = directory(&[("tokenizer_config.json", json!({"bos_token": "<s>", "add_bos_token": false}))]);
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().encode("one", true).unwrap(), [2]);
}

#[test]
fn tokens_only_the_settings_know_are_added() {
    let config = json!({
        "added_tokens_decoder": {"6": {"content": "<b>", "special": true}, "5": {"content": "<a>", "special": false}},
        "pad_token": "<pad>",
    });
    let map = json!({"bos_token": "<s>", "pad_token": "ignored"});
    let dir = directory(&[("tokenizer_config.json", config), ("special_tokens_map.json", map)]);
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 8);
    assert_eq!(tokenizer.encode("one<a><b> two", false).unwrap(), [2, 5, 6, 3]);
    assert_eq!((tokenizer.bos_id(), tokenizer.pad_id()), (Some(0), Some(7)));
}

#[test]
fn chat_templates_are_found_in_each_of_their_places() {
    let named = json!([{"name": "tool_use", "template": "X"}, {"name": "default", "template": "D"}]);
    let dir = directory(&[("tokenizer_config.json", json!({"chat_template": named}))]);
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().chat_template(), Some("D"));
    write(dir.path(), "chat_template.json", &json!({"chat_template": "J"}));
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().chat_template(), Some("J"));
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ x }}").unwrap();
    assert_eq!(Tokenizer::from_dir(dir.path()).unwrap().chat_template(), Some("{{ x }}"));
}

#[test]
fn a_directory_without_a_usable_tokenizer_says_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let fails = || Tokenizer::from_dir(dir.path()).unwrap_err();
    assert_eq!(fails().kind(), ErrorKind::NotFound);
    assert!(fails().message().contains("tokenizer.json is missing"), "{}", fails());

    std::fs::write(dir.path().join("tokenizer.model"), b"\x0a").unwrap();
    assert_eq!(fails().kind(), ErrorKind::Unsupported);
    assert!(fails().message().contains("save_pretrained"), "{}", fails());

    for broken in [&b"{"[..], b"[]", b"\xff\xfe", br#"{"model": {"type": "Unheard"}}"#] {
        std::fs::write(dir.path().join("tokenizer.json"), broken).unwrap();
        assert_eq!(fails().kind(), ErrorKind::Corrupt, "{}", fails());
        assert!(fails().message().contains("tokenizer.json"), "{}", fails());
    }
    // A merge longer than every token of the vocabulary.
    let model = json!({"type": "BPE", "vocab": {"aa": 0, "bb": 1}, "merges": ["aa bb"]});
    write(dir.path(), "tokenizer.json", &json!({"added_tokens": [], "model": model}));
    assert_eq!(fails().kind(), ErrorKind::Corrupt, "{}", fails());

    let dir = directory(&[("tokenizer_config.json", json!(["not an object"]))]);
    let error = Tokenizer::from_dir(dir.path()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.message().contains("tokenizer_config.json"), "{error}");

    let error = Tokenizer::from_dir(dir.path().join("nowhere")).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.message().contains("nowhere"), "{error}");
}
