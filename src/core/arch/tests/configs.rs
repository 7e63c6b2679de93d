use serde_json::json;

use super::*;
use crate::error::ErrorKind;

fn message(changes: Value) -> String {
    let e = compile(config_with(changes), &shapes()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "{e}");
    e.message().to_owned()
}

#[test]
fn transformers_5_and_4_spell_the_same() {
    let five = json!({
        "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0},
        "text_config": {"rope_parameters": {"rope_theta": 3.0}, "big": {"__float__": "Infinity"}},
    });
    let c = normalise(five).unwrap();
    assert_eq!(c["rope_theta"], 500000.0);
    assert_eq!(c["rope_scaling"]["rope_type"], "llama3");
    assert_eq!(c["text_config"]["rope_theta"], 3.0);
    assert_eq!(c["text_config"]["big"], f64::MAX);
    // What stands there in the old place stays.
    assert_eq!(
        normalise(json!({"rope_theta": 1.0, "rope_parameters": {"rope_theta": 2.0}})).unwrap()["rope_theta"],
        1.0
    );
    // A table by layer type is the description's business.
    let by_type = json!({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}});
    assert_eq!(normalise(by_type.clone()).unwrap(), by_type);
    assert_eq!(normalise(json!([1])).unwrap_err().message(), "config.json must hold an object, found a list");
    assert_eq!(
        normalise(json!({"x": {"__float__": "many"}})).unwrap_err().message(),
        "config.json: '__float__' must hold a number, found 'many'"
    );
}

#[test]
fn the_rotary_settings_are_found_wherever_they_stand() {
    let c = |v: Value| normalise(v).unwrap();
    let moved =
        c(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0, "partial_rotary_factor": 0.5}}));
    assert_eq!((&moved["rope_theta"], &moved["partial_rotary_factor"]), (&json!(5.0), &json!(0.5)));
    assert!(moved.get("rope_scaling").is_none(), "{moved}");
    // Null is as good as nothing, on either side.
    let null = c(
        json!({"rope_theta": null, "rope_scaling": null, "rope_parameters": {"rope_type": "yarn", "rope_theta": 5.0}}),
    );
    assert_eq!((&null["rope_theta"], &null["rope_scaling"]["rope_type"]), (&json!(5.0), &json!("yarn")));
    assert_eq!(c(json!({"rope_theta": 7.0, "rope_parameters": {"rope_theta": null}}))["rope_theta"], 7.0);
    // Some files have the base among what scales it.
    let inside = c(json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5.0}}));
    assert_eq!((&inside["rope_theta"], &inside["rope_scaling"]["factor"]), (&json!(5.0), &json!(2.0)));
}

#[test]
fn types_of_layers_that_the_writer_filled_in_change_nothing() {
    let windows = |c: Value| {
        let p = compile(c, &shapes()).unwrap();
        let window = |i: &super::super::tape::Instr| match &i.op {
            super::super::tape::Op::Attend(a) => Some(a.window),
            _ => None,
        };
        p.instrs.iter().filter_map(window).collect::<Vec<_>>()
    };
    let all = json!(["full_attention", "full_attention"]);
    assert_eq!(
        windows(config_with(json!({"model_type": "qwen2", "sliding_window": 7, "layer_types": all}))),
        [None, None]
    );
    let mistral = json!({"model_type": "mistral", "sliding_window": 7, "layer_types": ["sliding_attention", "sliding_attention"]});
    assert_eq!(windows(config_with(mistral)), [Some(7), Some(7)]);
    let mut null = config_with(json!({"model_type": "mistral"}));
    null["sliding_window"] = Value::Null;
    null["layer_types"] = Value::Null;
    assert_eq!(windows(null), [None, None]);
}

#[test]
fn a_text_config_that_says_next_to_nothing_takes_its_class_s_defaults() {
    let text = |t: Value| normalise(json!({"model_type": "llava", "text_config": t})).unwrap()["text_config"].clone();
    let vicuna = text(json!({"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5}));
    assert_eq!(
        vicuna,
        json!({"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5, "hidden_size": 4096, "num_hidden_layers": 32,
               "num_attention_heads": 32, "num_key_value_heads": null, "max_position_embeddings": 2048})
    );
    let pixtral =
        text(json!({"model_type": "mistral", "hidden_size": 5120, "num_key_value_heads": 4, "sliding_window": null}));
    assert_eq!((&pixtral["num_attention_heads"], &pixtral["num_key_value_heads"]), (&json!(32), &json!(4)));
    assert_eq!((&pixtral["hidden_size"], &pixtral["sliding_window"]), (&json!(5120), &Value::Null));
    // A configuration at the top, or of a type not known here, is taken at its word.
    assert_eq!(normalise(json!({"model_type": "llama"})).unwrap(), json!({"model_type": "llama"}));
    assert_eq!(text(json!({"model_type": "mine"})), json!({"model_type": "mine"}));
}

#[test]
fn an_older_layout_goes_under_its_own_name() {
    let t = |c: Value| normalise(c).unwrap()["model_type"].clone();
    assert_eq!(t(json!({"model_type": "olmo", "d_model": 32})), "hf_olmo");
    assert_eq!(t(json!({"model_type": "olmo", "hidden_size": 32})), "olmo");
}

#[test]
fn absurd_numbers_of_heads_name_their_key() {
    let what = |v: Value| message(json!({"num_attention_heads": v, "num_key_value_heads": 2, "head_dim": 8}));
    let tail = |m: &str, end: &str| assert!(m.ends_with(end), "{m}");
    tail(&what(Value::Null), "found none (config.json: num_attention_heads is missing)");
    tail(&what(json!(0)), "found 0 (config.json: num_attention_heads is 0)");
    tail(&what(json!(-4)), "found -4 (config.json: num_attention_heads is -4)");
    tail(&what(json!("four")), "found 'four' (config.json: num_attention_heads is \"four\")");
    tail(&what(json!(4.5)), "found 4.5 (config.json: num_attention_heads is 4.5)");
    tail(&what(json!([4])), "found a list of 1 (config.json: num_attention_heads is [4])");
    tail(
        &what(json!(1_000_000_000_000_u64)),
        "32 features cannot be split into 1000000000000 heads (config.json: num_attention_heads is 1000000000000)",
    );
    tail(&what(json!(1e300)), "found 1e300 (config.json: num_attention_heads is 1e+300)");
    tail(&what(json!(5)), "32 features cannot be split into 5 heads (config.json: num_attention_heads is 5)");
}

#[test]
fn other_absurd_values_name_their_key_too() {
    let has = |changes: Value, part: &str| {
        let m = message(changes);
        assert!(m.contains(part), "{m}");
    };
    has(json!({"num_hidden_layers": null}), "num_hidden_layers is missing");
    has(json!({"num_hidden_layers": 1_000_000_000_000_u64}), "num_hidden_layers is 1000000000000");
    has(json!({"num_hidden_layers": -1}), "num_hidden_layers is -1");
    has(
        json!({"rms_norm_eps": null}),
        "'eps' must be a number from 0 to 1, found none (config.json: rms_norm_eps is missing)",
    );
    has(json!({"rms_norm_eps": -1.0}), "rms_norm_eps is -1.0");
    has(json!({"rope_theta": -1.0}), "expected a positive base, found -1 (config.json: rope_theta is -1.0)");
    has(
        json!({"rope_scaling": "yarn"}),
        "expected an object as scaling, found 'y' (config.json: rope_scaling is \"yarn\")",
    );
    has(json!({"hidden_act": "glue"}), "the activation 'glue' is not known");
    has(json!({"head_dim": 7}), "expected an even number of dimensions up to the 8 features of a head, found 7");
    has(json!({"hidden_size": null}), "head_dim: cannot compute none // 4 (config.json: ");
    has(json!({"num_attention_heads": 0}), "32 // 0 is a division by zero");
    has(
        json!({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 0}),
        "'window' of 'attend' must be a positive number",
    );
    has(json!({"layer_types": ["full_attention"]}), "there is no element 1 in a list of 1 (config.json: ");
}
