//! Reads, changes, patches and steers a forward pass: `cargo run --release --example quickstart [MODEL]`.

use mlxterp::core::arch::tape::Index;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::{Trace, TraceOptions};
use mlxterp::interpretability::lens::{LensOptions, logit_lens, top_tokens};
use mlxterp::{ErrorKind, Result};

const MODEL: &str = "target/models/SmolLM2-135M-Instruct.Q4_1.gguf";
const SITE: &str = "layers.15.resid_post";
const FRANCE: &str = "The capital of France is";
const ITALY: &str = "The capital of Italy is";

fn main() -> Result<()> {
    let source = std::env::args().nth(1).unwrap_or_else(|| MODEL.to_owned());
    let model = Model::load(&source)?;
    println!("{}", model.info());

    // Read. Nothing is computed until numbers are looked at.
    let clean = model.trace(FRANCE)?;
    let pattern = clean.get("layers.3.attn.pattern")?;
    println!("layer 3's pattern, [batch, head, query, key]: {pattern:?}");
    say(&model, &clean, "untouched")?;

    // Change. A write behind what was read is refused; a fork may make it.
    let silent = tensor::zeros_like(&clean.get("layers.15.attn.output")?)?;
    match clean.set("layers.15.attn.output", &silent) {
        Err(e) if e.kind() == ErrorKind::StaleWrite => println!("as it should be: {e}"),
        other => other?,
    }
    let fork = clean.fork()?;
    fork.set("layers.15.attn.output", &silent)?;
    say(&model, &fork, "without the attention of layer 15")?;

    // Patch: a value of one run in another, at the country's token.
    let (france, italy) = (country(&clean)?, country(&model.trace(ITALY)?)?);
    let patched = model.trace(ITALY)?;
    let every_row = Index::Slice { start: None, stop: None, step: 1 };
    patched.set_at(SITE, &[every_row, Index::At(-2)], &france)?;
    say(&model, &patched, "Italy, with France's state at the country's token")?;

    // Steer: a direction from two prompts, added at the same token.
    let direction = tensor::sub(&italy, &france)?;
    let options = TraceOptions::default().with(SITE, Intervention::add_vector(direction, 1.0).positions([-2]));
    let steered = model.trace_with(FRANCE, &options)?;
    say(&model, &steered, "France, steered to Italy")?;
    for receipt in steered.receipts()? {
        println!(
            "{}: {} at positions {:?}, changed by {:.1}",
            receipt.site, receipt.change, receipt.positions, receipt.change_norm
        );
    }

    println!("{}", logit_lens(&model, FRANCE, &LensOptions::default())?);
    Ok(())
}

/// The state at the token before the last, `[hidden]`.
fn country(trace: &Trace) -> Result<Array> {
    let states = trace.get(SITE)?;
    let (positions, hidden) = (states.dim(1) as i32, states.dim(2) as i32);
    let row = tensor::slice(&states, &[0, positions - 2, 0], &[1, positions - 1, hidden], &[1, 1, 1])?;
    tensor::reshape(&row, &[hidden])
}

fn say(model: &Model, trace: &Trace, what: &str) -> Result<()> {
    let next = top_tokens(model, &trace.output()?, 0, -1, 3)?;
    let next: Vec<String> = next.iter().map(|c| format!("{:?} {:.0} %", c.text, c.probability * 100.0)).collect();
    println!("{what}: {}", next.join(", "));
    Ok(())
}
