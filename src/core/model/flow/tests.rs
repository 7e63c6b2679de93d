//! What the tape shows of where a patch reaches, on the shipped tiny models.

use crate::core::model::Model;

fn tiny(name: &str) -> Model {
    Model::load(&format!("{}/tests/fixtures/tiny/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn slot(model: &Model, site: &str) -> u32 {
    model.inner().slot(model.sites().resolve(site).unwrap())
}

#[test]
fn only_what_attention_looks_at_later_reaches_other_positions() {
    let model = tiny("llama");
    let inner = model.inner();
    let last = model.num_layers() - 1;
    let there = |site: &str| inner.reaches_other_positions(slot(&model, &site.replace("LAST", &last.to_string())));
    for site in ["layers.LAST.resid_pre", "layers.LAST.attn.k", "layers.LAST.attn.v", "layers.0.attn.q", "embed"] {
        assert!(there(site), "{site}");
    }
    for end in ["resid_mid", "resid_post", "attn", "mlp", "attn.q", "attn.z", "attn.pattern", "attn.result", "mlp.act"]
    {
        assert!(!there(&format!("layers.LAST.{end}")), "{end}");
    }
    assert!(inner.reaches_output(slot(&model, "layers.0.attn.pattern")));
}

#[test]
fn tokens_make_the_first_layers_values_alone() {
    let model = tiny("llama");
    let own = |site: &str| model.inner().is_of_its_token(slot(&model, site));
    assert!(own("embed") && own("layers.0.resid_pre") && own("layers.0.attn.q") && own("layers.0.attn.v"));
    assert!(!own("layers.0.attn.z") && !own("layers.0.resid_mid") && !own("layers.1.resid_pre"));
}

#[test]
fn the_stream_is_all_that_layers_tell_each_other() {
    for name in ["llama", "qwen2_window", "seed_oss", "smollm3"] {
        let model = tiny(name);
        let stream = model.inner().stream(None).unwrap_or_else(|| panic!("{name}"));
        assert!(stream.remembers.iter().all(|r| r.len() == 1), "{name}: one cache a layer");
        assert!(model.inner().is_all_the_output_needs(slot(&model, "layers.1.resid_pre")));
        assert!(!model.inner().is_all_the_output_needs(slot(&model, "layers.1.attn")));
    }
}
