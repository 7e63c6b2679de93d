//! Attention tools, on the small model whose circuit is known and on SmolLM2.

mod support;

use mlxterp::core::model::Model;
use support::fixture;

fn induction() -> Model {
    Model::load(fixture("induction").to_str().unwrap()).unwrap()
}

#[test]
fn the_induction_model_continues_what_it_was_shown() {
    let model = induction();
    let ids = model.tokenizer().unwrap().encode_prompt(" cat dog moon ship cat dog").unwrap();
    assert_eq!(ids.len(), 7, "one token a word, and <bos>");
    let logits = model.trace(ids).unwrap().output().unwrap();
    let last = mlxterp::core::trace::subscript(&logits, &[mlxterp::core::arch::tape::Index::At(0), mlxterp::core::arch::tape::Index::At(-1)]).unwrap().to_vec::<f32>().unwrap();
    let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap() as u32;
    assert_eq!(model.tokenizer().unwrap().token_to_str(best).unwrap(), " moon");
}
