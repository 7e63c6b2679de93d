//! One spelling for config.json.

use serde_json::{Map, Value};

use crate::error::{Result, bail, err};

/// Levels of nesting that a config.json may have.
const MAX_DEPTH: usize = 64;

/// config.json in one spelling, whoever wrote it: transformers 5 moved the rotary settings into `rope_parameters`, and
/// writes infinities as `{"__float__": "Infinity"}`. A `text_config` is normalised likewise.
pub fn normalise(config: Value) -> Result<Value> {
    let fixed = floats(config, 0)?;
    match fixed {
        Value::Object(map) => Ok(Value::Object(rotary(map)?)),
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

fn rotary(mut map: Map<String, Value>) -> Result<Map<String, Value>> {
    if let Some(Value::Object(rope)) = map.get("rope_parameters").cloned() {
        // A table by layer type is left to the description.
        if !rope.values().any(Value::is_object) {
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
    }
    if let Some(text @ Value::Object(_)) = map.get("text_config").cloned() {
        map.insert("text_config".to_owned(), normalise(text)?);
    }
    Ok(map)
}

fn absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}
