//! Patchscopes.

use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::interpretability::lens::{IDENTITY, Mapping, PatchscopeOptions, patchscope};
use mlxterp::toolkit::{Call, run};
use serde_json::json;

use crate::support::{assert_close, smollm2, tiny};
use crate::{expected, refused, texts, tool};

#[test]
fn states_of_every_layer_go_on_as_in_transformers() {
    let (want, about) = expected();
    let about = &about["patchscope"];
    let model = smollm2();
    let (source, describe) = (about["source"].as_str().unwrap(), about["describe"].as_str().unwrap());
    assert_eq!(about["identity"], IDENTITY);
    let targets: Vec<_> = [" Paris", " the"].map(Into::into).to_vec();
    let options = PatchscopeOptions { tokens: 6, targets, ..PatchscopeOptions::default() };
    let described = PatchscopeOptions { target: Some(describe.into()), target_layer: Some(3), ..options.clone() };
    for (name, options) in [("identity", options), ("describe", described)] {
        let found = patchscope(&model, source, &Mapping::default(), &options).unwrap();
        let odds = found.rows.iter().flat_map(|row| row.targets.iter().map(|t| t.probability.ln()));
        let log = want.get(&format!("patchscope.{name}.log_probability"));
        assert_close(&odds.collect::<Vec<f32>>(), log, 1e-4, name);
        let ids: Vec<Vec<u32>> = want.ids(&format!("patchscope.{name}.ids"));
        let seen: Vec<Vec<u32>> = found.rows.iter().map(|row| row.tokens.clone()).collect();
        assert_eq!(seen, ids, "{name}");
        let wanted = texts(about, &format!("{name}_texts"));
        assert_eq!(found.rows.iter().map(|r| r.continuation.clone()).collect::<Vec<_>>(), wanted);
    }
}

/// One layer at a time, without a cache, with a write.
#[test]
fn the_long_way_says_the_same_with_a_map_and_another_position() {
    let model = tiny("llama");
    let (source, target) = (vec![1u32, 5, 9, 2], vec![4u32, 4, 7, 30, 12]);
    let d = model.hidden_size() as i32;
    let mapping = Mapping {
        weight: Some(tensor::random_normal(&[d, d], Dtype::Float32, 1).unwrap()),
        bias: Some(tensor::random_normal(&[d], Dtype::Float32, 2).unwrap()),
    };
    let options = PatchscopeOptions {
        position: 1,
        target: Some(mlxterp::interpretability::lens::TargetPrompt::Ids(target.clone())),
        target_layer: Some(0),
        target_position: -2,
        tokens: 4,
        top: 1,
        ..PatchscopeOptions::default()
    };
    let found = patchscope(&model, source.clone(), &mapping, &options).unwrap();
    for (layer, row) in found.rows.iter().enumerate() {
        let states = model.trace(source.clone()).unwrap().get(&format!("layers.{layer}.output")).unwrap();
        let state = tensor::slice(&states, &[0, 1, 0], &[1, 2, d], &[1, 1, 1]).unwrap();
        let (w, b) = (mapping.weight.as_ref().unwrap(), mapping.bias.as_ref().unwrap());
        let state = tensor::add(&tensor::matmul(&state, &tensor::swap_axes(w, 0, 1).unwrap()).unwrap(), b).unwrap();
        let mut ids = target.clone();
        for token in &row.tokens {
            let trace = model.trace(ids.clone()).unwrap();
            let at = mlxterp::core::arch::tape::Index::Slice { start: Some(3), stop: Some(4), step: 1 };
            let all = mlxterp::core::arch::tape::Index::Slice { start: None, stop: None, step: 1 };
            trace.set_at("layers.0.output", &[all, at], &state).unwrap();
            let best = tensor::argmax(&trace.last_logits().unwrap(), -1, false).unwrap().to_vec::<u32>().unwrap();
            assert_eq!(best[0], *token, "layer {layer}");
            ids.push(*token);
        }
        assert_eq!((row.tokens.len(), row.target_layer, row.top[0].token), (4, 0, row.tokens[0]));
    }
}

#[test]
fn the_tool_draws_itself_and_tells_mistakes() {
    let model = tiny("llama");
    let options = json!({"source": [1, 5, 9], "target": [2, 3], "tokens": 2, "targets": [7], "layers": [-1, 0]});
    let found = tool(&model, "patchscope", options);
    assert!(found.figure().contains("rank") && found.to_string().lines().count() == 4);
    assert_eq!(found.json().unwrap()["rows"][0]["layer"], 1);

    let told = |options| refused(&model, "patchscope", options);
    assert!(told(json!({"source": [[1], [2]]})).contains("one source prompt, 2 were given"));
    assert!(told(json!({"source": [1], "target": [2], "layers": [2]})).contains("no layer 2"));
    assert!(told(json!({"source": [1], "target": [2], "target_layer": -3})).contains("no layer -3"));
    assert!(told(json!({"source": [1], "target": [2], "position": 1})).contains("no position 1"));
    let there = told(json!({"source": [1], "target": [2], "target_position": -2}));
    assert!(there.contains("the target prompt: no position -2"), "{there}");
    assert!(told(json!({"source": [1], "target": [64]})).contains("the target prompt: token id 64"));
    assert!(told(json!({"source": [1]})).contains("no tokenizer"));
    let mapped = |name: &str, shape: &[usize]| mapped(&model, name, shape);
    assert!(mapped("weight", &[2, 3]).contains("a map of shape [2, 3]"));
    assert!(mapped("bias", &[3]).contains("a bias of shape [3]"));
    assert!(mapped("scale", &[3]).contains("it takes weight, bias"));
}

fn mapped(model: &Model, name: &str, shape: &[usize]) -> String {
    let mut call = Call::new(json!({"source": [1], "target": [2]}));
    let values = vec![1.0f32; shape.iter().product()];
    call.arrays.push((name.to_owned(), Array::from_slice(&values, shape).unwrap()));
    run(model, "patchscope", call).map(drop).unwrap_err().message().to_owned()
}
