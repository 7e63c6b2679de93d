//! `mlxterp demo`: what the library does, on a small real model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mlxterp::core::arch::tape::Index;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::{Keep, TraceOptions, subscript};
use mlxterp::interpretability::lens::{LensOptions, Shade, logit_lens, top_tokens};
use mlxterp::visualization::lens_page;
use mlxterp::{Error, ErrorKind, Result};

use crate::load::with_bar;
use crate::say;
use crate::trace::shown;

const PROMPT: &str = "The capital of France is";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Runs all of it.
pub fn run(model: Option<&str>, page: &Path) -> Result<()> {
    let source = match model {
        Some(m) => m.to_owned(),
        None => find_model()?,
    };
    let model = with_bar(&source, &LoadOptions::default())?;
    let info = model.info();
    say(&format!(
        "{}: {:.0} M parameters in {} on {}, {} layers, {} sites to read and write\n",
        source,
        info.parameters as f64 / 1e6,
        info.dtype,
        info.backend,
        info.num_layers,
        info.sites
    ))?;
    next_tokens(&model, PROMPT, &TraceOptions::default(), &format!("After {PROMPT:?}"))?;
    let bar = spinner("logit lens");
    let lens = logit_lens(&model, PROMPT, &LensOptions::default())?;
    bar.finish_and_clear();
    say(&lens)?;
    write_page(&lens_page(&lens, Shade::Probability, &format!("Logit lens: {PROMPT}")), page)?;

    let layer = model.num_layers() / 2;
    let zeroed = format!("layers.{layer}.attn");
    let options = TraceOptions::default().with(&zeroed, Intervention::zero_out());
    next_tokens(&model, PROMPT, &options, &format!("With {zeroed} zeroed"))?;
    steer(&model, layer)?;
    time(&model)
}

fn next_tokens(model: &Model, prompt: &str, options: &TraceOptions, title: &str) -> Result<()> {
    let trace = model.trace_with(prompt, options)?;
    let last = trace.batch()?.lengths()[0] as i64 - 1;
    say(&format!("{title}, the next token:\n{}\n", shown(&top_tokens(model, &trace.output()?, 0, last, 5)?)))
}

/// A direction from France to Italy: what the country's own token leaves in the residual stream, in the one prompt and
/// the other, added where the country stands.
fn steer(model: &Model, layer: usize) -> Result<()> {
    let site = format!("layers.{layer}.output");
    let both = model.trace(["The capital of Italy is", PROMPT])?.get(&site)?;
    let all = Index::Slice { start: None, stop: None, step: 1 };
    let country = subscript(&both, &[all, Index::At(-2)])?;
    let parts = tensor::split(&country, 2, 0)?;
    let steering = Intervention::add_vector(tensor::sub(&parts[0], &parts[1])?, 1.0).positions([-2]);
    let options = TraceOptions::default().with(&site, steering);
    next_tokens(model, PROMPT, &options, &format!("Steered by Italy - France at {site}"))
}

fn time(model: &Model) -> Result<()> {
    let bar = spinner("timing");
    let ids: Vec<u32> = (0..128).map(|i| 1000 + i).collect();
    let median = |work: &dyn Fn() -> Result<()>| -> Result<Duration> {
        work()?;
        let mut times = Vec::new();
        for _ in 0..5 {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed());
        }
        times.sort();
        Ok(times[2])
    };
    let plain = median(&|| model.forward(ids.clone())?.eval())?;
    let traced = median(&|| {
        let options = TraceOptions { keep: Keep::All, ..TraceOptions::default() };
        let trace = model.trace_with(ids.clone(), &options)?;
        let mut values: Vec<Array> = Vec::new();
        for (site, (_, hook)) in model.program().hooks.iter().enumerate() {
            if !hook.on_touch {
                values.push(trace.read(site)?);
            }
        }
        Array::eval_all(&values)
    })?;
    bar.finish_and_clear();
    say(&format!(
        "128 tokens: plain forward {:.0} ms, forward with every site captured {:.0} ms",
        plain.as_secs_f64() * 1e3,
        traced.as_secs_f64() * 1e3
    ))
}

fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn write_page(html: &str, path: &Path) -> Result<()> {
    std::fs::write(path, html).map_err(|e| Error::new(ErrorKind::Io, format!("{}: {e}", path.display())))?;
    say(&format!("The whole lens, every position: {}\n", path.display()))
}

/// Where `cargo xtask fetch-model` puts the model: in the target folder that this program was built in, or under the
/// current folder.
fn find_model() -> Result<String> {
    let built_in = std::env::current_exe().ok().and_then(|p| Some(p.parent()?.parent()?.join("models").join(FILE)));
    let candidates = [built_in, Some(PathBuf::from("target/models").join(FILE))];
    match candidates.into_iter().flatten().find(|p| p.exists()) {
        Some(path) => Ok(path.display().to_string()),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("{FILE} is not here: run `cargo xtask fetch-model`, or give a model with --model"),
        )),
    }
}
