//! Chat templates: the same bytes as transformers renders, and what bad conversations and templates are told.

mod support;

use mlxterp::ErrorKind;
use mlxterp::core::text::Tokenizer;
use mlxterp::core::weights::gguf::Gguf;
use serde_json::{Map, Value, json};
use support::*;

fn smollm2_tokenizer() -> Tokenizer {
    let bytes = std::fs::read(smollm2_path()).unwrap();
    Tokenizer::from_gguf(&Gguf::parse(&bytes, "SmolLM2").unwrap().metadata).unwrap()
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("chat/expected.json")).unwrap()).unwrap()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn templates_give_the_bytes_that_transformers_gives() {
    let expected = expected();
    let tokenizer = smollm2_tokenizer();
    let (mut same, mut refused) = (0, 0);
    for case in expected["cases"].as_array().unwrap() {
        let mut extra = object(&case["extra"]);
        let name = case["template"].as_str().unwrap();
        if name != "smollm2" {
            extra.extend(object(&expected["tokens"]));
            extra.insert("chat_template".into(), expected["templates"][name].clone());
        }
        let what = format!("{name}, {}", case["case"]);
        let got = tokenizer.apply_chat_template(&case["messages"], case["prompt"].as_bool().unwrap(), &extra);
        match case["text"].as_str() {
            Some(text) => {
                assert_eq!(got.unwrap_or_else(|e| panic!("{what}: {e}")), text, "{what}");
                same += 1;
            }
            None => {
                got.map(|text| panic!("{what} gave {text:?}, not an error")).unwrap_err();
                refused += 1;
            }
        }
    }
    assert!(same > 80 && refused > 5, "{same} {refused}");
}

#[test]
fn special_tokens_of_the_model_are_known_to_its_template() {
    let dir = tempfile::tempdir().unwrap();
    let from = fixture("tiny/tokenizer");
    std::fs::copy(from.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let config = json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}});
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(dir.path().join("chat_template.jinja"), "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}\n")
        .unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let text = tokenizer.apply_chat_template(&json!([{"role": "user", "content": "x"}]), false, &Map::new()).unwrap();
    assert_eq!(text, "<|im_start|>x<|im_end|>");
}

#[test]
fn the_date_is_todays() {
    let extra = object(&json!({"chat_template": "{{ strftime_now('%Y-%m-%d') }}"}));
    let messages = json!([{"role": "user", "content": "x"}]);
    let text = smollm2_tokenizer().apply_chat_template(&messages, false, &extra).unwrap();
    let parts: Vec<u32> = text.split('-').map(|n| n.parse().unwrap()).collect();
    assert!(parts[0] >= 2024 && (1..=12).contains(&parts[1]) && (1..=31).contains(&parts[2]), "{text}");
}

#[test]
fn mistakes_are_told_where_they_are() {
    let tokenizer = smollm2_tokenizer();
    let none = Map::new();
    for (messages, says) in [
        (json!("hi"), "must be a list"),
        (json!([]), "messages is empty"),
        (json!(["hi"]), "message 0 is \"hi\""),
        (json!([{"role": "user", "content": "x"}, {"content": "x"}]), "message 1 has no role"),
    ] {
        let e = tokenizer.apply_chat_template(&messages, false, &none).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.message().contains(says), "{e}");
    }
    let hello = json!([{"role": "user", "content": "x"}]);
    for (template, kind, says) in [
        (json!("{{ raise_exception('no system here') }}"), ErrorKind::InvalidArgument, "no system here"),
        (json!("{% for %}"), ErrorKind::Unsupported, "cannot be rendered: syntax error"),
        (json!("{{ strftime_now('%!') }}"), ErrorKind::Unsupported, "strftime_now"),
        (json!("{{ open('/etc/passwd') }}"), ErrorKind::Unsupported, "open"),
        (json!("{{ missing | tojson }}"), ErrorKind::Unsupported, "undefined"),
        (json!(7), ErrorKind::InvalidArgument, "chat_template is 7"),
    ] {
        let e = tokenizer.apply_chat_template(&hello, false, &object(&json!({"chat_template": template}))).unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.message().contains(says), "{e}");
    }
    let tiny = Tokenizer::from_dir(fixture("tiny/tokenizer")).unwrap();
    assert!(tiny.apply_chat_template(&hello, true, &none).unwrap().ends_with("assistant\n"));
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% set x = c %}\
                   {% endfor %}{% endfor %}{% endfor %}";
    let extra = object(&json!({"chat_template": endless}));
    let e =
        smollm2_tokenizer().apply_chat_template(&json!([{"role": "user", "content": "x"}]), false, &extra).unwrap_err();
    assert!(e.message().contains("fuel"), "{e}");
}

#[test]
fn a_model_without_a_template_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("tiny/tokenizer").join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let e = tokenizer.apply_chat_template(&json!([{"role": "user", "content": "x"}]), true, &Map::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert!(e.message().contains("no chat template"), "{e}");
}
