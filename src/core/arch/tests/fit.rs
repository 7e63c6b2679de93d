//! Suggestions for a model type that nobody has described.

use serde_json::json;

use super::*;
use crate::core::arch::{TensorInfo, suggest};

fn infos(shapes: &Shapes) -> BTreeMap<String, TensorInfo> {
    shapes.iter().map(|(n, s)| (n.clone(), TensorInfo { shape: s.clone(), dtype: "F32".to_owned() })).collect()
}

#[test]
fn what_reads_more_of_the_config_comes_first() {
    let plain = config_with(json!({ "model_type": "new" }));
    let found = suggest(&plain, &infos(&shapes()));
    let names: Vec<&str> = found.fits.iter().map(|f| f.name.as_str()).collect();
    assert!(names.contains(&"llama") && names.contains(&"smollm3"), "{names:?}");
    assert!(found.nearest.is_none());
    assert!(found.in_words("new").contains("none is taken by itself"), "{}", found.in_words("new"));
    // A key that only SmolLM3 knows.
    let telling = config_with(json!({ "model_type": "new", "no_rope_layers": [1, 0] }));
    let found = suggest(&telling, &infos(&shapes()));
    assert_eq!(found.fits[0].name, "smollm3");
    assert!(found.fits[0].keys.contains(&"no_rope_layers".to_owned()));
    let words = found.in_words("new");
    assert!(words.contains("no_rope_layers") && words.contains("arch='smollm3'"), "{words}");
    assert!(words.contains("'arch new from smollm3'"), "{words}");
}

#[test]
fn what_nearly_fits_is_named_with_what_is_missing_and_what_is_left() {
    let mut shapes = shapes();
    for i in 0..2 {
        shapes.remove(&format!("model.layers.{i}.mlp.up_proj.weight"));
        shapes.insert(format!("model.layers.{i}.mlp.surprise.weight"), vec![48, 32]);
    }
    let found = suggest(&config_with(json!({ "model_type": "new" })), &infos(&shapes));
    assert!(found.fits.is_empty());
    let near = found.nearest.as_ref().unwrap();
    assert_eq!(near.unused, ["model.layers.*.mlp.surprise.weight"]);
    let words = found.in_words("new");
    assert!(words.contains("model.layers.*.mlp.surprise.weight"), "{words}");
    assert!(words.contains(&format!("'mlxterp arch {}'", near.name)), "{words}");
    // Against Llama itself, both sides are told.
    assert!(near.name != "llama" || near.missing == ["model.layers.*.mlp.up_proj.weight"]);
}

#[test]
fn nothing_near_is_said_too() {
    let alien = BTreeMap::from([("a.b".to_owned(), TensorInfo { shape: vec![3], dtype: "F32".to_owned() })]);
    let found = suggest(&json!({ "model_type": "new" }), &alien);
    assert!(found.fits.is_empty());
    assert!(found.in_words("new").starts_with("no description fits"), "{}", found.in_words("new"));
}
