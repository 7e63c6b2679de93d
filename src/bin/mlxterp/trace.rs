//! `mlxterp trace` and `mlxterp sites`.

use clap::Args;
use mlxterp::Result;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array, Dtype};
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::lens::{Cell, top_tokens};
use serde::Serialize;

use crate::finding::interventions;
use crate::{load::Source, print_json, say};

/// Run a prompt, read sites, change sites.
#[derive(Args)]
pub struct Trace {
    #[command(flatten)]
    model: Source,
    /// The prompt.
    prompt: String,
    /// Site or pattern to read; may be given several times.
    #[arg(long, value_name = "SITE")]
    read: Vec<String>,
    /// Change a site: SITE=zero_out, SITE=scale(0.5), SITE=clamp(-1, 1), SITE=noise(0.1, 7), or JSON after the =.
    #[arg(long, value_name = "SITE=INTERVENTION")]
    set: Vec<String>,
    /// How many next tokens to show.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// A write that changes or reaches nothing is an error.
    #[arg(long)]
    strict: bool,
    /// As JSON, with the values of every site read.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct ReadSite {
    site: String,
    shape: Vec<usize>,
    dtype: &'static str,
    norm: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f32>>,
}

impl Trace {
    /// Does it and prints what came of it.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        let interventions = interventions(&self.set)?;
        let options = TraceOptions { interventions, strict: self.strict, ..TraceOptions::default() };
        let trace = model.trace_with(self.prompt.as_str(), &options)?;
        let mut reads: Vec<(String, Array)> = Vec::new();
        for pattern in &self.read {
            for site in model.sites().resolve_many(pattern)? {
                let name = model.sites().standard_name(site).unwrap_or_else(|| model.sites().path(site).to_owned());
                reads.push((name, trace.read(site)?));
            }
        }
        let logits = trace.output()?;
        Array::eval_all(reads.iter().map(|(_, a)| a).chain([&logits]))?;
        trace.finish()?;
        let last = trace.batch()?.lengths()[0] as i64 - 1;
        let next = top_tokens(&model, &logits, 0, last, self.top)?;
        let reads = reads.into_iter().map(|(site, a)| describe(site, &a, self.json)).collect::<Result<Vec<_>>>()?;
        let receipts = trace.receipts()?;
        if self.json {
            return print_json(&serde_json::json!({ "next": next, "reads": reads, "receipts": receipts }));
        }
        for r in &reads {
            say(&format!("{}  {:?} {}  norm {:.4}", r.site, r.shape, r.dtype, r.norm))?;
        }
        for r in &receipts {
            let reached = if r.reached { "reached what was read" } else { "reached nothing that was read" };
            say(&format!("{} <- {}: changed by {:.4}, {reached}", r.site, r.change, r.change_norm))?;
        }
        say(&shown(&next))
    }
}

fn describe(site: String, a: &Array, with_data: bool) -> Result<ReadSite> {
    Ok(ReadSite {
        site,
        shape: a.dims(),
        dtype: a.dtype().name(),
        norm: tensor::norm_all(&tensor::cast(a, Dtype::Float32)?)?.item()?,
        data: with_data.then(|| a.to_vec::<f32>()).transpose()?,
    })
}

/// Next tokens, a line each.
pub fn shown(cells: &[Cell]) -> String {
    let line = |c: &Cell| format!("  {:>5.1} %  {:?}", c.probability * 100.0, c.text);
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Lists sites.
pub fn sites(model: &Model, pattern: Option<&str>, prompt: Option<&str>, json: bool) -> Result<()> {
    let chosen = match pattern {
        Some(p) => model.sites().resolve_many(p)?,
        None => (0..model.program().hooks.len()).collect(),
    };
    let planned = prompt.map(|p| model.plan(p)).transpose()?;
    if json {
        let one = |id: &usize| match &planned {
            Some(plan) => serde_json::json!(plan[*id]),
            None => {
                let c = &model.capabilities()[*id];
                serde_json::json!({
                    "name": model.sites().path(*id), "standard": model.sites().standard_name(*id),
                    "verified": c.verified, "writable": c.writable, "differentiable": c.differentiable
                })
            }
        };
        return print_json(&chosen.iter().map(one).collect::<Vec<_>>());
    }
    for id in chosen {
        let short = model.sites().standard_name(id).unwrap_or_default();
        let c = &model.capabilities()[id];
        let flags = [(c.verified.is_some(), 'v'), (c.writable, 'w'), (c.differentiable, 'd')];
        let flags: String = flags.map(|(yes, letter)| if yes { letter } else { '-' }).iter().collect();
        let rest = match &planned {
            Some(p) => format!("{:?} {}", p[id].shape, p[id].dtype),
            None => c.verified.clone().unwrap_or_default(),
        };
        say(&format!("{flags} {:<56} {short:<28} {rest}", model.sites().path(id)))?;
    }
    Ok(())
}
