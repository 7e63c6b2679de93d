use super::*;
use crate::core::arch::tape::{Hook, Layout};

/// Two layers of a Llama, names only.
fn program() -> Program {
    let mut p = Program { arch: "llama".to_owned(), n_layers: 2, ..Program::default() };
    let mut names = vec!["ids".to_owned(), "model.embed_tokens.input".into(), "model.embed_tokens.output".into()];
    for i in 0..2 {
        let inside = [
            "input",
            "input_layernorm.input",
            "input_layernorm.output",
            "self_attn.input",
            "self_attn.q_proj.input",
            "self_attn.q_proj.output",
            "self_attn.rope.output",
            "self_attn.q",
            "self_attn.rope.output#1",
            "self_attn.k",
            "self_attn.v",
            "self_attn.scores",
            "self_attn.pattern",
            "self_attn.z",
            "self_attn.result",
            "self_attn.output",
            "h",
            "mlp.input",
            "mlp.gate",
            "mlp.up",
            "mlp.act",
            "mlp.output",
            "output",
        ];
        names.extend(inside.map(|n| format!("model.layers.{i}.{n}")));
    }
    names.extend(
        ["model.norm.input", "model.norm.output", "lm_head.input", "lm_head.output", "output"].map(str::to_owned),
    );
    let hook = |slot| Hook { slot, layout: Layout::Hidden, on_touch: false };
    p.hooks = names.into_iter().enumerate().map(|(i, n)| (n, hook(i as u32))).collect();
    let roles = [
        ("embed", "model.embed_tokens"),
        ("layer", "model.layers.*"),
        ("attn", "self_attn"),
        ("mlp", "mlp"),
        ("resid_mid", "h"),
        ("norm", "model.norm"),
        ("head", "lm_head"),
    ];
    p.roles = roles.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    p
}

fn sites() -> Sites {
    Sites::new(&program()).unwrap()
}

fn path(name: &str) -> String {
    let s = sites();
    s.path(s.resolve(name).unwrap_or_else(|e| panic!("{e}"))).to_owned()
}

fn message(name: &str) -> String {
    sites().resolve(name).unwrap_err().message().to_owned()
}

#[test]
fn every_name_of_the_table_leads_to_its_value() {
    let table = [
        ("ids", "ids"),
        ("embed", "model.embed_tokens.output"),
        ("output", "output"),
        ("logits", "output"),
        ("norm", "model.norm.output"),
        ("norm.input", "model.norm.input"),
        ("lm_head", "lm_head.output"),
        ("layers.1", "model.layers.1.output"),
        ("layers.1.input", "model.layers.1.input"),
        ("layers.1.output", "model.layers.1.output"),
        ("layers.1.resid_pre", "model.layers.1.input"),
        ("layers.1.resid_mid", "model.layers.1.h"),
        ("layers.1.resid_post", "model.layers.1.output"),
        ("layers.1.attn", "model.layers.1.self_attn.output"),
        ("layers.1.attn.input", "model.layers.1.self_attn.input"),
        ("layers.1.attn.q", "model.layers.1.self_attn.q"),
        ("layers.1.attn.scores", "model.layers.1.self_attn.scores"),
        ("layers.1.attn.pattern", "model.layers.1.self_attn.pattern"),
        ("layers.1.attn.probs", "model.layers.1.self_attn.pattern"),
        ("layers.1.attn.z", "model.layers.1.self_attn.z"),
        ("layers.1.attn.result", "model.layers.1.self_attn.result"),
        ("layers.1.mlp", "model.layers.1.mlp.output"),
        ("layers.1.mlp.gate", "model.layers.1.mlp.gate"),
        ("layers.1.mlp.act", "model.layers.1.mlp.act"),
    ];
    for (short, full) in table {
        assert_eq!(path(short), full, "{short}");
    }
}

#[test]
fn other_spellings_are_understood() {
    let table = [
        ("model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.output"),
        ("model.layers.1.self_attn.q_proj.input", "model.layers.1.self_attn.q_proj.input"),
        ("model.model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.output"),
        ("model.model.norm", "model.norm.output"),
        ("model.lm_head", "lm_head.output"),
        ("model.layers.1.attn", "model.layers.1.self_attn.output"),
        ("layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.output"),
        ("layers.1.attn.q_proj", "model.layers.1.self_attn.q_proj.output"),
        ("layers.-1.mlp.output", "model.layers.1.mlp.output"),
        ("layers.-2.mlp", "model.layers.0.mlp.output"),
        ("model.layers.-1", "model.layers.1.output"),
        ("model.layers.0.self_attn.probs", "model.layers.0.self_attn.pattern"),
        ("model.layers.0.self_attn.rope", "model.layers.0.self_attn.rope.output"),
        ("model.layers.0.self_attn.rope#1", "model.layers.0.self_attn.rope.output#1"),
    ];
    for (name, full) in table {
        assert_eq!(path(name), full, "{name}");
    }
}

#[test]
fn patterns_name_many_in_execution_order() {
    let s = sites();
    let many = |p: &str| s.resolve_many(p).unwrap().into_iter().map(|i| s.path(i).to_owned()).collect::<Vec<_>>();
    assert_eq!(many("layers.*.mlp"), ["model.layers.0.mlp.output", "model.layers.1.mlp.output"]);
    assert_eq!(many("layers.*.attn.pattern"), ["model.layers.0.self_attn.pattern", "model.layers.1.self_attn.pattern"]);
    assert_eq!(many("model.layers.*.self_attn.q_proj").len(), 2);
    assert_eq!(many("model.model.layers.*.mlp.*").len(), 10);
    assert_eq!(many("layers.-1.attn.*_proj"), ["model.layers.1.self_attn.q_proj.output"]);
    assert_eq!(many("layers.0.mlp"), ["model.layers.0.mlp.output"]);
    assert_eq!(
        s.resolve_many("layers.*.mpl").unwrap_err().message(),
        "the pattern 'layers.*.mpl' matches no site; did you mean 'layers.*.mlp'?"
    );
}

#[test]
fn a_wrong_name_is_answered_with_the_right_one() {
    assert_eq!(
        message("layers.99.mlp"),
        "no site 'layers.99.mlp': the model has 2 layers; did you mean 'layers.1.mlp'?"
    );
    assert_eq!(message("layers.-3"), "no site 'layers.-3': the model has 2 layers; did you mean 'layers.1'?");
    assert_eq!(
        message("model.layers.7.self_attn.z"),
        "no site 'model.layers.7.self_attn.z': the model has 2 layers; did you mean 'model.layers.1.self_attn.z'?"
    );
    assert_eq!(message("layers.1.mpl"), "no site 'layers.1.mpl'; did you mean 'layers.1.mlp'?");
    assert_eq!(message("embd"), "no site 'embd'; did you mean 'embed'?");
    assert_eq!(
        message("layers.0.mlp.pre"),
        "no site 'layers.0.mlp.pre': this layer's mlp has no value 'pre' (it has gate, up, act)"
    );
    assert_eq!(
        message("layers.*.mlp"),
        "'layers.*.mlp' names many sites: it can be changed or listed, but not read as one value"
    );
    for name in ["", ".", "layers", "layers.", "layers.x", "#", "model.", "layers.--1", "layers.9223372036854775808"] {
        assert_eq!(sites().resolve(name).unwrap_err().kind(), crate::error::ErrorKind::UnknownSite, "{name}");
    }
}

#[test]
fn an_absent_role_says_so() {
    let mut p = program();
    p.roles.remove("resid_mid");
    let e = Sites::new(&p).unwrap().resolve("layers.0.resid_mid").unwrap_err();
    assert_eq!(
        e.message(),
        "no site 'layers.0.resid_mid': this model has no resid_mid: its description names no value between attention and MLP \
         (they may run in parallel)"
    );
}

#[test]
fn a_description_may_call_attention_values_otherwise() {
    let mut p = program();
    p.roles.insert("attn.q".to_owned(), "rope.output".to_owned());
    let s = Sites::new(&p).unwrap();
    assert_eq!(s.path(s.resolve("layers.0.attn.q").unwrap()), "model.layers.0.self_attn.rope.output");
}

#[test]
fn every_site_is_listed_once_and_has_at_most_one_short_name() {
    let s = sites();
    assert_eq!(s.names().len(), s.len());
    let mut short: Vec<String> = (0..s.len()).filter_map(|i| s.standard_name(i)).collect();
    for (i, name) in s.names().iter().enumerate() {
        assert_eq!(s.resolve(name).unwrap(), i);
        if let Some(short) = s.standard_name(i) {
            assert_eq!(s.resolve(&short).unwrap(), i, "{short}");
        }
    }
    let n = short.len();
    short.sort();
    short.dedup();
    assert_eq!(short.len(), n);
    assert_eq!(s.standard_name(s.resolve("layers.1.attn").unwrap()).as_deref(), Some("layers.1.attn.output"));
}

/// Hybrids call the mixer of every layer alike: what it computes decides which part it is.
#[test]
fn a_name_that_parts_share_means_what_the_module_computes() {
    use crate::core::arch::tape::{Attention, Instr, Op};
    let mut p = Program { arch: "hybrid".to_owned(), n_layers: 3, ..Program::default() };
    let hook = |slot| Hook { slot, layout: Layout::Hidden, on_touch: false };
    let names = (0..3).flat_map(|i| ["input", "q", "state", "output"].map(|n| format!("layers.{i}.mixer.{n}")));
    p.hooks = names.enumerate().map(|(s, n)| (n, hook(s as u32))).collect();
    let roles = [("layer", "layers.*"), ("attn", "mixer"), ("mixer", "mixer"), ("mlp", "mixer")];
    p.roles = roles.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let plain = Attention {
        scale: 1.0,
        window: None,
        chunk: None,
        softcap: None,
        causal: true,
        f32: false,
        sinks: None,
        bias: None,
        mask: None,
    };
    let instr = |op, path: &str| Instr { op, inputs: vec![], outputs: vec![], path: path.to_owned(), line: 1 };
    p.instrs = vec![instr(Op::Attend(plain), "layers.0.mixer"), instr(Op::TokenShift, "layers.1.mixer.shift")];
    let sites = Sites::new(&p).unwrap();
    for (layer, part) in ["attn", "mixer", "mlp"].into_iter().enumerate() {
        let own = sites.resolve(&format!("layers.{layer}.mixer.output")).unwrap();
        assert_eq!(sites.standard_name(own).unwrap(), format!("layers.{layer}.{part}.output"));
        let there = |other: &str| sites.resolve(&format!("layers.{layer}.{other}.input")).is_ok();
        assert_eq!(there("attn"), part == "attn");
        assert_eq!(there("mlp"), part == "mlp");
    }
    assert_eq!(sites.standard_name(sites.resolve("layers.0.attn.q").unwrap()).unwrap(), "layers.0.attn.q");
    assert_eq!(sites.standard_name(sites.resolve("layers.1.mixer.state").unwrap()).unwrap(), "layers.1.mixer.state");
}
