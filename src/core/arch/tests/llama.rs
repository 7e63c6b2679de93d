use serde_json::json;

use super::super::library;
use super::super::tape::{Layout, Op, Producer};
use super::super::weights::{TensorInfo, plan_weights};
use super::*;

fn kinds(p: &Program) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for i in &p.instrs {
        let name = match &i.op {
            Op::Linear(_) => "linear",
            Op::Embedding(_) => "embedding",
            Op::RmsNorm { .. } => "norm",
            Op::Rope(_) => "rope",
            Op::Attend(_) => "attend",
            Op::AttendScores(_) | Op::AttendPattern(_) | Op::AttendMix(_) => "inside attention",
            Op::HeadResult(_) | Op::HeadSum(_) => "per head",
            Op::Binary(..) => "binary",
            Op::Unary(_) => "unary",
            _ => "axes",
        };
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

fn hook<'a>(p: &'a Program, name: &str) -> &'a super::super::tape::Hook {
    let found = p.hooks.iter().find(|(n, _)| n == name);
    &found.unwrap_or_else(|| panic!("no hook {name}")).1
}

#[test]
fn the_tape_has_exactly_the_instructions_of_a_llama() {
    let p = compile(config(), &shapes()).unwrap();
    let expected = [
        ("axes", 16),
        ("attend", 2),
        ("binary", 6),
        ("embedding", 1),
        ("inside attention", 6),
        ("linear", 15),
        ("norm", 5),
        ("per head", 4),
        ("rope", 4),
        ("unary", 2),
    ];
    assert_eq!(kinds(&p), BTreeMap::from(expected));
    assert_eq!((p.n_layers, p.tensors.len(), p.detours.len()), (2, 20, 4));
    assert_eq!(p.hooks.len(), 4 + 2 * 41 + 6);
}

#[test]
fn inputs_are_made_before_they_are_used_and_slots_know_their_producer() {
    let p = compile(config(), &shapes()).unwrap();
    let mut made = vec![false; p.slots.len()];
    let settle = |made: &mut Vec<bool>| {
        for (s, producer) in p.slots.iter().enumerate() {
            match producer {
                Producer::Input => {
                    assert_eq!(s, 0);
                    made[s] = true;
                }
                Producer::Alias(of) => {
                    assert!((*of as usize) < s);
                    made[s] = made[*of as usize];
                }
                Producer::Instr(_) => {}
            }
        }
    };
    for (i, instr) in p.instrs.iter().enumerate() {
        settle(&mut made);
        assert!(instr.inputs.iter().all(|s| made[*s as usize]), "instruction {i}: {instr:?}");
        for o in &instr.outputs {
            made[*o as usize] = true;
        }
    }
    for (i, p2) in p.slots.iter().enumerate() {
        if let Producer::Instr(at) = p2 {
            assert!(p.instrs[*at as usize].outputs.contains(&(i as u32)));
        }
    }
}

#[test]
fn hooks_come_in_the_order_of_execution_with_their_layouts() {
    let p = compile(config(), &shapes()).unwrap();
    let inside: Vec<&str> = p
        .hooks
        .iter()
        .filter_map(|(n, _)| n.strip_prefix("model.layers.1."))
        .filter(|n| !n.contains("_proj"))
        .collect();
    assert_eq!(
        inside,
        [
            "input",
            "input_layernorm.input",
            "input_layernorm.output",
            "self_attn.input",
            "self_attn.rope.input",
            "self_attn.rope.output",
            "self_attn.q",
            "self_attn.rope.input#1",
            "self_attn.rope.output#1",
            "self_attn.k",
            "self_attn.v",
            "self_attn.kc",
            "self_attn.vc",
            "self_attn.scores",
            "self_attn.pattern",
            "self_attn.z",
            "self_attn.result",
            "self_attn.output",
            "h",
            "post_attention_layernorm.input",
            "post_attention_layernorm.output",
            "mlp.input",
            "mlp.gate",
            "mlp.up",
            "mlp.act",
            "mlp.output",
            "output"
        ]
    );
    let layouts = [
        ("ids", Layout::Tokens),
        ("model.embed_tokens.output", Layout::Hidden),
        ("model.layers.0.self_attn.q", Layout::Heads),
        ("model.layers.0.self_attn.vc", Layout::Heads),
        ("model.layers.0.self_attn.scores", Layout::Scores),
        ("model.layers.0.self_attn.pattern", Layout::Scores),
        ("model.layers.0.self_attn.z", Layout::Heads),
        ("model.layers.0.self_attn.result", Layout::Heads),
        ("model.layers.0.self_attn.o_proj.input", Layout::Hidden),
        ("model.layers.0.mlp.act", Layout::Hidden),
        ("output", Layout::Hidden),
    ];
    for (name, layout) in layouts {
        assert_eq!(hook(&p, name).layout, layout, "{name}");
    }
    let on_touch: Vec<&str> =
        p.hooks.iter().filter(|(_, h)| h.on_touch).map(|(n, _)| n.rsplit('.').next().unwrap()).collect();
    assert_eq!(on_touch, ["scores", "pattern", "result", "scores", "pattern", "result"]);
}

#[test]
fn a_layers_output_is_the_next_ones_input_under_another_slot() {
    let p = compile(config(), &shapes()).unwrap();
    let (out, next) = (hook(&p, "model.layers.0.output").slot, hook(&p, "model.layers.1.input").slot);
    assert_eq!(p.slots[next as usize], Producer::Alias(out));
    assert_eq!(p.output, hook(&p, "output").slot);
}

#[test]
fn attention_and_its_projection_have_a_second_way() {
    let p = compile(config(), &shapes()).unwrap();
    let [attention, projection] = &p.detours[..2] else { panic!("{:?}", p.detours) };
    assert_eq!(attention.slot, hook(&p, "model.layers.0.self_attn.z").slot);
    let inner = ["scores", "pattern"].map(|n| hook(&p, &format!("model.layers.0.self_attn.{n}")).slot);
    assert_eq!(attention.inner, inner);
    assert!(attention.on_read && !projection.on_read);
    assert_eq!(projection.slot, hook(&p, "model.layers.0.self_attn.o_proj.output").slot);
    assert_eq!(projection.inner, [hook(&p, "model.layers.0.self_attn.result").slot]);
    for d in &p.detours {
        assert_eq!(p.instrs[d.instr as usize].outputs, [d.slot]);
        assert_ne!(p.slots[d.slot as usize], Producer::Instr(d.instr));
    }
}

#[test]
fn a_head_of_its_own_is_used_unless_the_config_ties_it() {
    let mut s = shapes();
    s.insert("lm_head.weight".into(), vec![100, 32]);
    let own = |tied: bool, s: &Shapes| {
        let p = compile(config_with(json!({"tie_word_embeddings": tied})), s).unwrap();
        let Op::Linear(w) = &p.instrs.last().unwrap().op else { panic!() };
        (w.path.clone(), p.tensors[w.weight as usize].clone())
    };
    assert_eq!(own(false, &s), ("lm_head".into(), "lm_head.weight".into()));
    assert_eq!(own(false, &shapes()), ("model.embed_tokens".into(), "model.embed_tokens.weight".into()));
    // Tied: the rules drop it before the tape is made; left in, it is a head of its own.
    assert_eq!(own(true, &shapes()).1, "model.embed_tokens.weight");
}

#[test]
fn biases_norms_and_packed_weights_are_found_in_the_checkpoint() {
    let mut s = shapes();
    for i in 0..2 {
        s.insert(format!("model.layers.{i}.self_attn.q_norm.weight"), vec![8]);
        s.insert(format!("model.layers.{i}.self_attn.k_norm.weight"), vec![8]);
        s.insert(format!("model.layers.{i}.self_attn.q_proj.bias"), vec![32]);
        s.insert(format!("model.layers.{i}.mlp.up_proj.weight"), vec![48, 4]);
        s.insert(format!("model.layers.{i}.mlp.up_proj.scales"), vec![48, 1]);
        s.insert(format!("model.layers.{i}.mlp.up_proj.biases"), vec![48, 1]);
    }
    let p = compile(config_with(json!({"model_type": "qwen3", "head_dim": 8})), &s).unwrap();
    assert_eq!(kinds(&p)["norm"], 9);
    let linear = |path: &str| {
        let found = p.instrs.iter().find_map(|i| match &i.op {
            Op::Linear(w) if w.path.ends_with(path) => Some(w.clone()),
            _ => None,
        });
        found.unwrap()
    };
    assert!(linear("0.self_attn.q_proj").bias.is_some() && linear("0.self_attn.k_proj").bias.is_none());
    let packed = linear("0.mlp.up_proj");
    assert!(packed.scales.is_some() && packed.biases.is_some() && packed.bias.is_none());
    assert!(linear("0.mlp.gate_proj").scales.is_none());
    let norm = p.modules.iter().find(|m| m.path == "model.layers.0.self_attn.q_norm").unwrap();
    assert_eq!((norm.kind.as_str(), norm.tensors.len()), ("RmsNorm", 1));
}

#[test]
fn a_tensor_nobody_uses_is_refused() {
    let mut s = shapes();
    for i in 0..7 {
        s.insert(format!("model.layers.0.extra.{i}"), vec![1]);
    }
    let e = compile(config(), &s).unwrap_err();
    assert_eq!(
        e.message(),
        "the description 'llama' does not use 7 of the checkpoint's 27 tensors: 'model.layers.0.extra.0', \
         'model.layers.0.extra.1', 'model.layers.0.extra.2', 'model.layers.0.extra.3', 'model.layers.0.extra.4', …. It may \
         not be this model's description; if they do not matter, leave them out with 'drop' in its weights: section"
    );
}

#[test]
fn a_missing_tensor_is_named() {
    let mut s = shapes();
    s.remove("model.layers.1.mlp.up_proj.weight");
    let e = compile(config(), &s).unwrap_err();
    assert!(e.message().contains("no tensor 'model.layers.1.mlp.up_proj.weight'"), "{e}");
    let mut s = shapes();
    s.remove("model.layers.0.input_layernorm.weight");
    let e = compile(config(), &s).unwrap_err();
    assert!(
        e.message().contains("'model.layers.0.input_layernorm.weight'; if it may be missing, declare it with '?'"),
        "{e}"
    );
}

#[test]
fn shapes_that_contradict_the_config_are_refused_at_load() {
    let mut s = shapes();
    s.insert("model.layers.0.mlp.down_proj.weight".into(), vec![32, 40]);
    let e = compile(config(), &s).unwrap_err();
    assert!(
        e.message()
            .ends_with("'model.layers.0.mlp.down_proj.weight' has shape [32, 40], but its input has 48 features"),
        "{e}"
    );
    let mut s = shapes();
    s.insert("model.norm.weight".into(), vec![31]);
    assert!(compile(config(), &s).unwrap_err().message().contains("has shape [31]"));
}

#[test]
fn layers_without_positions_keep_their_hooks() {
    let c = config_with(json!({"model_type": "smollm3", "no_rope_layers": [1, 0]}));
    let p = compile(c, &shapes()).unwrap();
    assert_eq!(kinds(&p)["rope"], 2);
    hook(&p, "model.layers.1.self_attn.rope.output#1");
    assert_eq!(p.arch, "smollm3");
}

#[test]
fn windows_follow_the_config() {
    let windows = |changes: serde_json::Value| {
        let p = compile(config_with(changes), &shapes()).unwrap();
        let of = |i: &super::super::tape::Instr| match &i.op {
            Op::Attend(a) => Some(a.window),
            _ => None,
        };
        p.instrs.iter().filter_map(of).collect::<Vec<_>>()
    };
    let sliding = json!(["full_attention", "sliding_attention"]);
    assert_eq!(windows(json!({"sliding_window": 7})), [None, None]);
    assert_eq!(windows(json!({"sliding_window": 7, "layer_types": sliding})), [None, Some(7)]);
    assert_eq!(windows(json!({"model_type": "mistral", "sliding_window": 7})), [Some(7), Some(7)]);
    assert_eq!(windows(json!({"model_type": "mistral"})), [Some(4096), Some(4096)]);
    let qwen = |more: serde_json::Value| {
        let mut c = json!({"model_type": "qwen2", "sliding_window": 7, "max_window_layers": 1});
        c.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        windows(c)
    };
    assert_eq!(qwen(json!({})), [None, None]);
    assert_eq!(qwen(json!({"use_sliding_window": false, "layer_types": sliding})), [None, None]);
    assert_eq!(qwen(json!({"use_sliding_window": true})), [None, Some(7)]);
}

#[test]
fn every_type_that_computes_as_llama_compiles() {
    let types = ["llama", "smollm3"].map(|name| Description::parse(library::text(name).unwrap(), name).unwrap());
    for t in types.iter().flat_map(|d| d.model_types()) {
        let head = json!({"model_type": t, "head_dim": 8});
        let p = compile(config_with(head), &shapes()).unwrap_or_else(|e| panic!("{t}: {e}"));
        assert_eq!(p.n_layers, 2, "{t}");
    }
}

/// The tutorial's description, run on GPT-2's own tensor names.
#[test]
fn the_description_of_the_tutorial_compiles() {
    let page = include_str!("../../../../docs/architectures.md");
    let fences: Vec<&str> = page.split("```arch\n").skip(1).filter_map(|f| f.split("```").next()).collect();
    assert_eq!(fences.len(), 2);
    for text in &fences {
        Description::parse(text, "page").unwrap();
    }
    let d = Description::parse(fences[1], "gpt2").unwrap();
    let config = json!({"n_embd": 12, "n_head": 3, "n_layer": 2, "layer_norm_epsilon": 1e-5, "model_type": "gpt2"});
    let mut names = vec![("wte.weight".to_owned(), vec![50, 12]), ("wpe.weight".to_owned(), vec![16, 12])];
    let mut add = |name: String, shape: &[usize]| {
        names.push((format!("{name}.bias"), shape[shape.len() - 1..].to_vec()));
        names.push((format!("{name}.weight"), shape.to_vec()));
    };
    add("ln_f".into(), &[12]);
    for i in 0..2 {
        for (name, shape) in [
            ("ln_1", &[12][..]),
            ("ln_2", &[12]),
            ("attn.c_attn", &[12, 36]),
            ("attn.c_proj", &[12, 12]),
            ("mlp.c_fc", &[12, 48]),
            ("mlp.c_proj", &[48, 12]),
        ] {
            add(format!("h.{i}.{name}"), shape);
        }
    }
    names.push(("h.0.attn.bias".to_owned(), vec![1, 1, 16, 16]));
    let infos = names.into_iter().map(|(n, shape)| (n, TensorInfo { shape, dtype: "F32".to_owned() })).collect();
    let plan = plan_weights(&d, &config, &infos).unwrap();
    let shapes = plan.iter().map(|(n, w)| (n.clone(), w.shape(&infos).unwrap())).collect();
    let p = elaborate(&d, &config, &shapes).unwrap();
    assert_eq!((p.n_layers, kinds(&p)["attend"]), (2, 2));
    assert_eq!(hook(&p, "model.h.1.attn.qh").layout, Layout::Heads);
    assert_eq!(p.roles["attn.q"], "qh");
}
