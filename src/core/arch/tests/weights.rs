use serde_json::json;

use super::super::weights::{TensorInfo, WeightExpr, plan_weights};
use super::*;

type Infos = BTreeMap<String, TensorInfo>;

fn infos(list: &[(&str, &[usize])]) -> Infos {
    list.iter().map(|(n, s)| ((*n).to_owned(), TensorInfo { shape: s.to_vec(), dtype: "F32".to_owned() })).collect()
}

fn plan(rules: &str, config: Value, tensors: &Infos) -> Result<BTreeMap<String, (WeightExpr, Vec<usize>)>> {
    let text = format!("arch mine\nweights:\n{rules}\nMain(ids):\n  return ids\n");
    let d = Description::parse(&text, "mine")?;
    let plan = plan_weights(&d, &config, tensors)?;
    plan.into_iter().map(|(n, w)| w.shape(tensors).map(|s| (n, (w, s)))).collect()
}

fn shapes_of(rules: &str, tensors: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    let done = plan(rules, json!({}), &infos(tensors)).unwrap_or_else(|e| panic!("{e}"));
    done.into_iter().map(|(n, (_, s))| (n, s)).collect()
}

fn raw(name: &str) -> Box<WeightExpr> {
    Box::new(WeightExpr::Raw(name.to_owned()))
}

#[test]
fn the_config_decides_whether_a_rule_holds() {
    let d = for_model_type("llama").unwrap();
    let t = infos(&[("lm_head.weight", &[4, 2]), ("a.rotary_emb.inv_freq", &[2]), ("model.mtp_layers.0.x", &[1])]);
    let left = |tied: Value| {
        plan_weights(&d, &json!({"tie_word_embeddings": tied}), &t).unwrap().into_keys().collect::<Vec<_>>()
    };
    assert!(left(json!(true)).is_empty());
    assert_eq!(left(json!(false)), ["lm_head.weight"]);
    assert_eq!(left(Value::Null), ["lm_head.weight"]);
}

#[test]
fn rename_knows_look_ahead_and_groups() {
    let names = shapes_of(
        "  rename ^(?!model\\.) -> model.\n  rename \\.h\\.(\\d+)\\. -> .layers.\\1.",
        &[("h.3.w", &[1]), ("model.h.4.w", &[1])],
    );
    assert_eq!(names.into_iter().map(|(n, _)| n).collect::<Vec<_>>(), ["model.layers.3.w", "model.layers.4.w"]);
}

#[test]
fn transposed_squeezed_and_shifted() {
    let t = infos(&[("h.0.c.weight", &[2, 3]), ("h.0.a", &[1, 5, 1]), ("n.weight", &[7]), ("h.1.d.weight", &[2, 3])]);
    let p = plan("  transpose h.*.c.weight, *.zz\n  squeeze *.a\n  add 1 *.weight", json!({}), &t).unwrap();
    assert_eq!(p["h.0.c.weight"], (WeightExpr::Transpose(raw("h.0.c.weight")), vec![3, 2]));
    assert_eq!(p["h.0.a"], (WeightExpr::Squeeze(raw("h.0.a")), vec![5]));
    assert_eq!(p["n.weight"], (WeightExpr::Add(1.0, raw("n.weight")), vec![7]));
    assert_eq!(p["h.1.d.weight"], (*raw("h.1.d.weight"), vec![2, 3]));
}

#[test]
fn layers_beyond_the_last_are_dropped_and_fused_experts_told_apart() {
    let t = infos(&[("l.3.w", &[1]), ("l.4.w", &[1]), ("l.10.w", &[1]), ("e.w1", &[12, 5]), ("e.w2", &[12, 5])]);
    let rules =
        "  drop l.{e}.* from n\n  unflatten *.w1 -> \\1.one by moe.count\n  unflatten *.w2 -> \\1.two by moe.count t";
    let p = plan(rules, json!({"n": 4, "moe": {"count": 3}}), &t).unwrap();
    let shapes: Vec<_> = p.iter().map(|(n, (_, s))| (&**n, &**s)).collect();
    assert_eq!(shapes, [("e.one", &[3usize, 4, 5][..]), ("e.two", &[3, 5, 4]), ("l.3.w", &[1])]);
    let wrong = |rules: &str| plan(rules, json!({"n": 5}), &t).unwrap_err().message().to_owned();
    assert_eq!(wrong("  drop l.* from n"), "mine line 3, column 8: expected {e} for the number, found 'l.*'");
    assert_eq!(wrong("  drop l.{e}.* from zz"), "mine line 3, column 21: expected a whole number, found none");
    assert_eq!(
        wrong("  unflatten *.w1 -> \\1.one by n"),
        "mine line 3, column 3: 'e.w1' of shape [12, 5] has no 5 equal parts"
    );
}

#[test]
fn experts_are_stacked_in_the_order_of_their_numbers() {
    let names: Vec<String> = (0..11).map(|e| format!("l.0.experts.{e}.w1.weight")).collect();
    let list: Vec<(&str, &[usize])> = names.iter().map(|n| (n.as_str(), &[3, 2][..])).collect();
    let p = plan("  stack *.experts.{e}.{w1,w2}.* -> \\1.switch.\\3.\\4", json!({}), &infos(&list)).unwrap();
    let (WeightExpr::Stack(parts), shape) = &p["l.0.switch.w1.weight"] else { panic!("{p:?}") };
    assert_eq!(shape, &[11, 3, 2]);
    assert_eq!(parts[10], *raw("l.0.experts.10.w1.weight"));
    let e = plan("  stack *.experts.{e}.w1.* -> \\1.s.\\3", json!({}), &infos(&list[1..])).unwrap_err();
    assert_eq!(
        e.message(),
        "mine line 3, column 3: 'l.0.s.weight' is stacked from 10 experts, but number 0 is missing"
    );
}

#[test]
fn halves_are_slices_of_the_form_asked_for() {
    let t: &[(&str, &[usize])] = &[("m.gate_up", &[2, 4, 6])];
    assert_eq!(
        shapes_of("  halve *.gate_up -> \\1.g, \\1.u by -1", t),
        [("m.g".into(), vec![2, 4, 3]), ("m.u".into(), vec![2, 4, 3])]
    );
    assert_eq!(shapes_of("  halve *.gate_up -> \\1.g, \\1.u by -2 interleaved t", t)[0].1, [2, 3, 4]);
    let p = plan("  halve *.gate_up -> \\1.g, \\1.u by 1 interleaved", json!({}), &infos(t)).unwrap();
    let slice = WeightExpr::Slice { of: raw("m.gate_up"), axis: 1, start: 1, stop: 4, step: 2 };
    assert_eq!(p["m.u"], (slice, vec![2, 2, 6]));
    let blocks: &[(&str, &[usize])] = &[("m.blocks", &[2, 8, 3, 16])];
    assert_eq!(shapes_of("  move *.blocks -> \\1.weight by view32", blocks), [("m.weight".into(), vec![2, 8, 12])]);
    let odd: &[(&str, &[usize])] = &[("m.gate_up", &[3])];
    let e = plan("  halve *.gate_up -> \\1.g, \\1.u by 0", json!({}), &infos(odd)).unwrap_err();
    assert_eq!(e.message(), "mine line 3, column 3: 'm.gate_up' of shape [3] has no two halves along axis 0");
}

#[test]
fn the_checkpoint_says_whether_it_is_raw() {
    let torch: &[(&str, &[usize])] = &[("m.conv1d.weight", &[8, 1, 4]), ("n.weight", &[8])];
    let mlx: &[(&str, &[usize])] = &[("m.conv1d.weight", &[8, 4, 1]), ("n.weight", &[8])];
    let rules = "  add 1 n.weight if raw\n  conv_layout *.conv1d.weight";
    assert_eq!(shapes_of(rules, torch)[0].1, [8, 4, 1]);
    let shifted = |t| matches!(plan(rules, json!({}), &infos(t)).unwrap()["n.weight"].0, WeightExpr::Add(..));
    assert!(shifted(torch) && !shifted(mlx));
}

#[test]
fn latent_attention_is_split_by_the_config() {
    let t: &[(&str, &[usize])] = &[("l.0.self_attn.kv_b_proj.weight", &[20, 7])];
    let rule = "  mla_split *.self_attn.kv_b_proj -> embed_q, unembed_out";
    let config = json!({"num_attention_heads": 2, "qk_nope_head_dim": 6, "v_head_dim": 4});
    let p = plan(rule, config, &infos(t)).unwrap();
    assert_eq!(p["l.0.self_attn.embed_q.weight"].1, [2, 7, 6]);
    assert_eq!(p["l.0.self_attn.unembed_out.weight"].1, [2, 4, 7]);
    let e = plan(rule, json!({}), &infos(t)).unwrap_err();
    assert!(e.message().ends_with("config.json needs num_attention_heads"), "{e}");
}

#[test]
fn ternary_weights_are_refused_and_not_run_as_plain_ones() {
    let d = for_model_type("bitnet").unwrap();
    let t = infos(&[("model.layers.0.mlp.up_proj.weight", &[4, 8])]);
    assert!(plan_weights(&d, &json!({"quantization_config": null}), &t).is_ok());
    let config = json!({"quantization_config": {"quant_method": "bitnet", "quantization_mode": "online"}});
    let e = plan_weights(&d, &config, &t).unwrap_err();
    assert_eq!(e.kind(), crate::error::ErrorKind::Unsupported);
    assert!(e.message().starts_with("quantization_config in config.json says 'bitnet'"), "{e}");
}

#[test]
fn a_child_adds_to_its_parents_rules_or_clears_them() {
    let find = |n: &str| (n == "base").then(|| "arch base\nweights:\n  drop a\nMain(ids):\n  return ids".to_owned());
    let left = |text: &str| {
        let d = Description::parse_with(text, "mine", &find).unwrap();
        plan_weights(&d, &json!({}), &infos(&[("a", &[1]), ("b", &[1])])).unwrap().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(left("arch mine from base"), ["b"]);
    assert!(left("arch mine from base\nweights:\n  drop b").is_empty());
    assert_eq!(left("arch mine from base\nweights:\n  clear\n  drop b"), ["a"]);
}

fn typed(list: &[(&str, &[usize], &str)]) -> Infos {
    let info = |s: &[usize], d: &str| TensorInfo { shape: s.to_vec(), dtype: d.to_owned() };
    list.iter().map(|(n, s, d)| ((*n).to_owned(), info(s, d))).collect()
}

#[test]
fn eight_bit_floats_take_their_scales_along() {
    let t = typed(&[
        ("a.weight", &[200, 130], "F8_E4M3"),
        ("a.weight_scale_inv", &[2, 2], "F32"),
        ("a.activation_scale", &[], "F32"),
        ("e.0.experts.0.w.weight", &[8, 4], "F8_E4M3"),
        ("e.0.experts.0.w.weight_scale_inv", &[], "BF16"),
    ]);
    let p = plan("  stack *.experts.{e}.w.* -> \\1.all.\\3", json!({}), &t).unwrap();
    let shapes: Vec<_> = p.iter().map(|(n, (_, s))| (&**n, &**s)).collect();
    assert_eq!(shapes, [("a.weight", &[200usize, 130][..]), ("e.0.all.weight", &[1, 8, 4])]);
    assert!(matches!(&p["a.weight"].0, WeightExpr::Blocks(b) if b.size == [128, 128] && b.scale.is_some()));
    let wrong = typed(&[("a.weight", &[200, 130], "F8_E4M3"), ("a.weight_scale_inv", &[3, 2], "F32")]);
    let message = plan("  drop x", json!({}), &wrong).unwrap_err().message().to_owned();
    assert_eq!(
        message,
        "'a.weight_scale_inv' of shape [3, 2] does not fit 'a.weight' of shape [200, 130] in blocks of 128 x 128"
    );
    let other = typed(&[("a.weight", &[2, 2], "F8_E5M2")]);
    assert!(plan("  drop x", json!({}), &other).unwrap_err().message().contains("E5M2"));
}

#[test]
fn packed_integers_become_mlx_own_form() {
    let names = [
        ("m.weight_packed", &[16usize, 8][..], "I32"),
        ("m.weight_scale", &[16, 2], "BF16"),
        ("m.weight_shape", &[2], "I64"),
    ];
    let config = |weights: Value| json!({"quantization_config": {"config_groups": {"group_0": {"weights": weights}}}});
    let known = json!({"num_bits": 4, "group_size": 32, "type": "int", "symmetric": true, "strategy": "group"});
    let p = plan("  drop x", config(known.clone()), &typed(&names)).unwrap();
    let shapes: Vec<_> = p.iter().map(|(n, (_, s))| (&**n, &**s)).collect();
    assert_eq!(shapes, [("m.biases", &[16usize, 2][..]), ("m.scales", &[16, 2]), ("m.weight", &[16, 8])]);
    let said = normalise(config(known)).unwrap();
    assert_eq!(said["quantization"], json!({"bits": 4, "group_size": 32}));
    let refused = |weights: Value| plan("  drop x", config(weights), &typed(&names)).unwrap_err().message().to_owned();
    assert!(refused(json!({"num_bits": 8})).starts_with("'m.weight_packed' is packed in a way that is not known here"));
    assert!(refused(json!({"num_bits": 4, "symmetric": false})).contains("symmetric 4-bit integers"));
}

#[test]
fn a_packed_up_projection_is_unpacked_and_split() {
    let t = typed(&[
        ("l.kv_b_proj.weight", &[20, 8], "U32"),
        ("l.kv_b_proj.scales", &[20, 2], "F16"),
        ("l.kv_b_proj.biases", &[20, 2], "F16"),
    ]);
    let config = json!({"num_attention_heads": 2, "qk_nope_head_dim": 6, "v_head_dim": 4, "kv_lora_rank": 64});
    let p = plan("  mla_split *.kv_b_proj -> embed_q, unembed_out", config.clone(), &t).unwrap();
    let shapes: Vec<_> = p.iter().map(|(n, (_, s))| (&**n, &**s)).collect();
    assert_eq!(shapes, [("l.embed_q.weight", &[2usize, 64, 6][..]), ("l.unembed_out.weight", &[2, 4, 64])]);
    let mut other = config;
    other["kv_lora_rank"] = json!(60);
    let message = plan("  mla_split *.kv_b_proj -> embed_q, unembed_out", other, &t).unwrap_err().message().to_owned();
    assert_eq!(message, "l.kv_b_proj.weight: 8 words with 2 scales a row do not hold 60 values");
}
