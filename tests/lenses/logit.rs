//! The logit lens.

use mlxterp::ErrorKind;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::tensor;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::lens::{Component, LensCell, LensOptions, LogitLens, Shade, lens_of, logit_lens};
use mlxterp::utils::Token;
use serde_json::json;

use crate::support::{assert_close, difference, smollm2, tiny, values};
use crate::{expected, refused, texts, tool};

fn numbers(lens: &LogitLens, prompt: usize, f: impl Fn(&LensCell) -> f32) -> Vec<f32> {
    lens.prompts[prompt].cells.iter().flatten().map(f).collect()
}

#[test]
fn every_cell_of_two_prompts_is_what_transformers_says() {
    let (want, about) = expected();
    let model = smollm2();
    let targets = texts(&about, "targets").into_iter().map(Token::Text).collect();
    let options = LensOptions { targets, top: 3, ..LensOptions::default() };
    let lens = logit_lens(&model, texts(&about, "prompts"), &options).unwrap();
    assert_eq!(lens.layers, (-1..30).collect::<Vec<i64>>());
    for prompt in 0..2 {
        let of = |name: &str| want.get(&format!("lens.{prompt}.{name}"));
        assert_close(&numbers(&lens, prompt, |c| c.entropy), of("entropy"), 1e-4, "entropy");
        assert_close(&numbers(&lens, prompt, |c| c.kl), of("kl"), 1e-4, "KL");
        for t in 0..2 {
            let own = |values: &[f32]| values.iter().skip(t).step_by(2).copied().collect::<Vec<f32>>();
            let seen = numbers(&lens, prompt, |c| c.targets[t].probability);
            assert_close(&seen, &own(of("probability")), 5e-4, "probability");
            // Neighbours in rank may be nearer to each other than rounding.
            let (seen, wanted) = (numbers(&lens, prompt, |c| c.targets[t].rank as f32), own(of("rank")));
            assert!(seen.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1.0 + b * 1e-3), "{seen:?} {wanted:?}");
        }
        let first: Vec<f32> = of("top").iter().step_by(3).copied().collect();
        assert_eq!(numbers(&lens, prompt, |c| c.top[0].token as f32), first, "the likeliest token of every cell");
    }
    // The text goes on with its own tokens.
    let reading = &lens.prompts[0];
    assert_eq!(reading.cells[0][0].next.as_ref().unwrap().text, reading.tokens[1]);
    assert!(reading.cells[0].last().unwrap().next.is_none());
    let mlp = LensOptions { component: Component::Mlp, ..LensOptions::default() };
    let lens = logit_lens(&model, texts(&about, "prompts"), &mlp).unwrap();
    assert_eq!(lens.layers[0], 0, "what an MLP adds has no embedding before it");
    assert_close(&numbers(&lens, 1, |c| c.entropy), want.get("lens.1.mlp.entropy"), 1e-4, "entropy of MLPs");
}

/// One layer and position at a time, by writing the state where the last layer's output stands.
#[test]
fn the_long_way_says_the_same_for_every_component_layer_and_row() {
    let model = tiny("qwen2");
    let rows = vec![vec![1u32, 5, 9, 2, 8, 30], vec![4u32, 4, 7]];
    for component in [Component::ResidPre, Component::ResidMid, Component::ResidPost, Component::Attn, Component::Mlp] {
        let options = LensOptions { component, embedding: false, top: 2, ..LensOptions::default() };
        let lens = logit_lens(&model, rows.clone(), &options).unwrap();
        for (r, row) in rows.iter().enumerate() {
            for layer in 0..model.num_layers() {
                let trace = model.trace(row.clone()).unwrap();
                let state = trace.get(&component.site(layer)).unwrap();
                let fork = trace.fork().unwrap();
                fork.set("layers.-1.output", &state).unwrap();
                let logits = fork.output().unwrap();
                let odds = values(&tensor::softmax(&logits, -1).unwrap());
                let end = values(&tensor::softmax(&trace.output().unwrap(), -1).unwrap());
                for p in 0..row.len() {
                    let of =
                        |all: &[f32]| all[p * 64..(p + 1) * 64].iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
                    let (here, last) = (of(&odds), of(&end));
                    let cell = &lens.prompts[r].cells[layer][p];
                    let entropy = -here.iter().map(|p| p * p.ln()).sum::<f64>();
                    let kl: f64 = last.iter().zip(&here).map(|(p, q)| p * (p / q).ln()).sum();
                    let best = here.iter().copied().fold(0.0, f64::max);
                    for (seen, wanted) in [(cell.entropy, entropy), (cell.kl, kl), (cell.top[0].probability, best)] {
                        let off = (f64::from(seen) - wanted).abs() / wanted.abs().max(1.0);
                        assert!(off < 1e-5, "{component} {layer} {p}: {seen} {wanted}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_lens_sees_interventions_and_binds_nothing() {
    let model = tiny("llama");
    let ids = vec![1u32, 5, 9, 2];
    let options = LensOptions::default();
    let plain = logit_lens(&model, ids.clone(), &options).unwrap();
    // At the end of the stream, and behind it: there the model's own distribution changes, not the reading of layers.
    for (site, moved) in [("layers.0.mlp", true), ("norm", false)] {
        let edit = TraceOptions::default().with(site, Intervention::scale(0.5));
        let trace = model.trace_with(ids.clone(), &edit).unwrap();
        let lens = lens_of(&trace, &options, &mut None).unwrap();
        let entropy = |l: &LogitLens| numbers(l, 0, |c| c.entropy);
        assert_eq!(difference(&entropy(&lens), &entropy(&plain)) > 1e-3, moved, "{site}");
        assert!(difference(&numbers(&lens, 0, |c| c.kl), &numbers(&plain, 0, |c| c.kl)) > 1e-3, "{site}");
        trace.set("embed", &tensor::zeros_like(&trace.fork().unwrap().get("embed").unwrap()).unwrap()).unwrap();
    }
}

#[test]
fn some_layers_and_positions_are_a_part_of_all() {
    let model = tiny("llama");
    let rows = vec![vec![1u32, 5, 9, 2], vec![3u32, 4]];
    let all = logit_lens(&model, rows.clone(), &LensOptions::default()).unwrap();
    let options = LensOptions { layers: Some(vec![-1]), positions: Some(vec![-1, 0]), ..LensOptions::default() };
    let some = logit_lens(&model, rows, &options).unwrap();
    assert_eq!((some.layers.as_slice(), some.prompts[1].positions.as_slice()), (&[-1, 1][..], &[1, 0][..]));
    for (prompt, last) in [(0, 3), (1, 1)] {
        let (a, b) = (&some.prompts[prompt].cells[1][0], &all.prompts[prompt].cells[2][last]);
        assert!(a.top[0].token == b.top[0].token && (a.entropy - b.entropy).abs() < 1e-5 && b.kl.abs() < 1e-5);
    }
}

#[test]
fn the_tool_gives_text_json_arrays_and_a_figure() {
    let model = tiny("llama");
    let rows = json!([[1, 5, 9, 2], [3, 4]]);
    let options = json!({"prompts": rows, "targets": [7], "top": 2, "shade": "rank"});
    let found = tool(&model, "logit_lens", options);
    let arrays = found.arrays().unwrap();
    let shape = |name: &str| arrays.iter().find(|(n, _)| n == name).map(|(_, a)| a.shape().to_vec()).unwrap();
    assert_eq!(
        (shape("0.top_tokens"), shape("1.kl"), shape("1.target_rank")),
        (vec![3, 4, 2], vec![3, 2], vec![3, 2, 1])
    );
    assert_eq!(found.json().unwrap()["prompts"][1]["cells"].as_array().unwrap().len(), 3);
    assert!(found.to_string().contains("rank of \"7\"") && found.figure().matches("<table").count() == 2);
    let lens = logit_lens(&model, vec![1u32, 5], &LensOptions::default()).unwrap();
    assert_eq!(lens.mean(Shade::Kl).unwrap().shape(), [3]);
    assert!(lens.grid(0, Shade::Rank).unwrap().values[1].is_nan(), "the last position has no next token");
    assert!(lens.grid(1, Shade::Rank).unwrap_err().message().contains("no prompt 1"));
}

#[test]
fn mistakes_are_told() {
    let model = tiny("llama_tied");
    let told = |options| refused(&model, "logit_lens", options);
    let ids = json!([1, 2, 3]);
    assert!(told(json!({"prompts": ids, "layers": [2]})).contains("no layer 2: the model has 2"));
    assert!(told(json!({"prompts": ids, "layers": []})).contains("no layers"));
    assert!(told(json!({"prompts": ids, "positions": [-4]})).contains("no position -4: prompt 0 has 3 tokens"));
    assert!(told(json!({"prompts": ids, "top": 0})).contains("top 0"));
    assert!(told(json!({"prompts": ids, "targets": [288]})).contains("token id 288"));
    assert!(told(json!({"prompts": ids, "component": "residual"})).contains("resid_post"));
    assert!(told(json!({"prompts": ids, "shades": 1})).contains("shades"));
    assert!(told(json!({"layers": [0]})).contains("prompts"));
    let smollm2 = smollm2();
    let many = refused(&smollm2, "logit_lens", json!({"prompts": "a", "targets": [" Parisian cafés"]}));
    assert!(many.contains("is") && many.contains("tokens"), "{many}");
    let nan = TraceOptions::default().with("layers.1.output", Intervention::scale(1e38));
    let nan = nan.with("layers.1.output", Intervention::scale(1e38));
    let broken = lens_of(&model.trace_with(vec![1u32, 2], &nan).unwrap(), &LensOptions::default(), &mut None);
    let broken = broken.unwrap_err();
    assert!(
        broken.kind() == ErrorKind::InvalidArgument && broken.message().contains("layers.1.resid_post"),
        "{broken}"
    );
    assert!(logit_lens(&model, vec![1u32], &LensOptions::default()).is_ok());
    assert!(logit_lens(&model, vec![1u32], &LensOptions { top: 1000, ..LensOptions::default() }).is_ok());
}
