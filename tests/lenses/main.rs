//! Lenses: against transformers and PyTorch on the same weights, and against the long way.

#[path = "../support/mod.rs"]
mod support;

mod attribution;
mod logit;
mod patchscope;
mod tuned;

use mlxterp::core::model::Model;
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Finding;
use serde_json::Value;

/// What `tests/fixtures/lens/make_expected.py` wrote.
fn expected() -> (support::Expected, Value) {
    let text = std::fs::read_to_string(support::fixture("lens/expected.json")).unwrap();
    let numbers = support::Expected::read(&support::fixture("lens/expected.safetensors"));
    (numbers, serde_json::from_str(&text).unwrap())
}

fn texts(about: &Value, key: &str) -> Vec<String> {
    serde_json::from_value(about[key].clone()).unwrap()
}

fn tool(model: &Model, name: &str, options: Value) -> Box<dyn Finding> {
    run(model, name, Call::new(options)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn refused(model: &Model, name: &str, options: Value) -> String {
    run(model, name, Call::new(options)).map(drop).unwrap_err().message().to_owned()
}
