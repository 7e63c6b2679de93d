//! One spelling for config.json.

use serde_json::{Map, Value};

use crate::error::{Result, bail, err};

/// Levels of nesting that a config.json may have.
const MAX_DEPTH: usize = 64;

/// Older layouts that go under the name of a newer one: the type, a key that only they have, and their own name.
const OLDER: [(&str, &str, &str); 1] = [("olmo", "d_model", "hf_olmo")];

/// What a `text_config` of these types means when it says nothing: width, layers, heads, heads of keys (0: as many as of
/// queries), positions.
///
/// Transformers 4 wrote of a nested configuration only what differs from its class's defaults, and LLaVA's says next to
/// nothing. A configuration at the top is always whole.
const SILENT: [(&str, [u64; 5]); 5] = [
    ("llama", [4096, 32, 32, 0, 2048]),
    ("mistral", [4096, 32, 32, 8, 131_072]),
    ("qwen2", [4096, 32, 32, 32, 32_768]),
    ("qwen3", [4096, 32, 32, 32, 32_768]),
    ("gemma3_text", [2304, 26, 8, 4, 131_072]),
];

/// config.json in one spelling, whoever wrote it: transformers 5 moved the rotary settings into `rope_parameters`, and
/// writes infinities as `{"__float__": "Infinity"}`. A `text_config` is normalised likewise.
pub fn normalise(config: Value) -> Result<Value> {
    let fixed = floats(config, 0)?;
    match fixed {
        Value::Object(map) => Ok(Value::Object(nested(packing(rotary(named(map))))?)),
        other => bail!(Config, "config.json must hold an object, found {}", kind(&other)),
    }
}

fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// JSON has no infinity, and none of the values read here may be one: the largest float stands for it.
fn floats(v: Value, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        bail!(Config, "config.json is nested more than {MAX_DEPTH} deep");
    }
    Ok(match v {
        Value::Object(map) => {
            if let (1, Some(Value::String(text))) = (map.len(), map.get("__float__")) {
                return match text.to_lowercase().as_str() {
                    "infinity" | "inf" => Ok(f64::MAX.into()),
                    "-infinity" | "-inf" => Ok(f64::MIN.into()),
                    "nan" => Ok(Value::Null),
                    _ => match text.parse::<f64>() {
                        Ok(v) if v.is_finite() => Ok(v.into()),
                        _ => Err(err!(Config, "config.json: '__float__' must hold a number, found '{text}'")),
                    },
                };
            }
            let fixed = map.into_iter().map(|(k, v)| Ok((k, floats(v, depth + 1)?)));
            Value::Object(fixed.collect::<Result<_>>()?)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(|v| floats(v, depth + 1)).collect::<Result<_>>()?),
        other => other,
    })
}

/// The rotary settings where transformers 4 and mlx-lm have them.
fn rotary(mut map: Map<String, Value>) -> Map<String, Value> {
    for table in ["rope_parameters", "rope_scaling"] {
        let Some(Value::Object(rope)) = map.get(table).cloned() else { continue };
        // A table by layer type is left to the description.
        if rope.values().any(Value::is_object) {
            continue;
        }
        for key in ["rope_theta", "partial_rotary_factor"] {
            if let (Some(v), true) = (rope.get(key).filter(|v| !v.is_null()), absent(&map, key)) {
                map.insert(key.to_owned(), v.clone());
            }
        }
        let scaled = rope.get("rope_type").and_then(Value::as_str).unwrap_or("default") != "default";
        if scaled && absent(&map, "rope_scaling") {
            map.insert("rope_scaling".to_owned(), Value::Object(rope));
        }
    }
    map
}

/// An older layout under its own name.
fn named(mut map: Map<String, Value>) -> Map<String, Value> {
    let older =
        OLDER.iter().find(|(t, key, _)| map.get("model_type").is_some_and(|m| m == t) && map.contains_key(*key));
    if let Some((_, _, own)) = older {
        map.insert("model_type".to_owned(), Value::from(*own));
    }
    map
}

/// How weights are packed, in MLX's words where compressed-tensors has its own.
fn packing(mut map: Map<String, Value>) -> Map<String, Value> {
    let groups = map.get("quantization_config").and_then(|q| q.get("config_groups")).and_then(Value::as_object);
    let said = groups.and_then(|g| g.values().find_map(|g| g.get("weights")));
    if let (Some(bits), Some(size), true) =
        (said.and_then(|s| s.get("num_bits")), said.and_then(|s| s.get("group_size")), absent(&map, "quantization"))
    {
        let own = serde_json::json!({"bits": bits, "group_size": size});
        map.insert("quantization".to_owned(), own);
    }
    map
}

/// `text_config` in the same spelling, whole.
fn nested(mut map: Map<String, Value>) -> Result<Map<String, Value>> {
    if let Some(text @ Value::Object(_)) = map.get("text_config").cloned() {
        let mut text = normalise(text)?;
        let silent = SILENT.iter().find(|(t, ..)| text.get("model_type").is_some_and(|m| m == t));
        if let (Some((_, [width, layers, heads, kv, positions])), Some(text)) = (silent, text.as_object_mut()) {
            let mut default = |key: &str, value: Value| {
                text.entry(key).or_insert(value);
            };
            default("hidden_size", (*width).into());
            default("num_hidden_layers", (*layers).into());
            default("num_attention_heads", (*heads).into());
            default("num_key_value_heads", if *kv == 0 { Value::Null } else { (*kv).into() });
            default("max_position_embeddings", (*positions).into());
            default("rms_norm_eps", 1e-6.into());
        }
        for key in ["quantization", "quantization_config"] {
            if let (Some(said), true) = (text.get(key).cloned(), absent(&map, key)) {
                map.insert(key.to_owned(), said);
            }
        }
        map.insert("text_config".to_owned(), text);
    }
    Ok(map)
}

fn absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}
