//! Every model type of the library against mlx-lm or transformers: logits and every value both have, in float32, in
//! bfloat16 and in 4 bits, alone, padded and step by step. `ARCH=mixtral,gemma*` runs only these entries.

mod support;

use std::collections::BTreeMap;

use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::{Array, Dtype};
use mlxterp::core::trace::{Cache, TraceOptions};
use support::contract::Contract;
use support::entry::{Entry, Site, Stored, asked_for};
use support::table::{self, Row};
use support::*;

/// What float32 may differ from mlx-lm (the same kernels, summed in the same order) and from transformers.
const AGAINST_MLX: f32 = 2e-6;
const AGAINST_TORCH: f32 = 1e-5;
/// What rounding may do where the same is computed for other lengths, or step by step.
const ROUNDING: f32 = 3e-5;
/// What bfloat16 may differ from mlx-lm's bfloat16, from transformers', and from float32.
const HALF_AGAINST_MLX: f32 = 8e-3;
const HALF_AGAINST_TORCH: f32 = 5e-2;
const HALF_AGAINST_FLOAT: f32 = 1e-1;

/// What was found at one entry: the worst difference of each kind, and everything that is wrong.
#[derive(Default)]
struct Findings {
    worst: BTreeMap<&'static str, f32>,
    failures: Vec<String>,
    compared: usize,
    /// Sites that the entry excuses.
    apart: usize,
    description: String,
}

impl Findings {
    fn fail(&mut self, what: &str, why: impl std::fmt::Display) {
        self.failures.push(format!("{what}: {why}"));
    }

    /// Notes how far `got` is from `want`; further than `bound` is a failure.
    fn compare(&mut self, kind: &'static str, what: &str, got: &[f32], want: &[f32], bound: f32) {
        if got.len() != want.len() {
            return self.fail(what, format!("{} values, expected {}", got.len(), want.len()));
        }
        let top = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off =
            got.iter().zip(want).fold(0f32, |m, (a, b)| if (a - b).is_nan() { f32::NAN } else { m.max((a - b).abs()) });
        let off = if top > 0.0 { off / top } else { off };
        let worst = self.worst.entry(kind).or_default();
        *worst = if off.is_nan() { f32::INFINITY } else { worst.max(off) };
        if off.is_nan() || off > bound {
            self.fail(what, format!("off by {off:.1e}, allowed {bound:.0e}"));
        }
    }

    /// The value of a step that may fail, or a note that it did.
    fn need<T>(&mut self, what: &str, result: mlxterp::Result<T>) -> Option<T> {
        result.map_err(|e| self.fail(what, e)).ok()
    }
}

fn float32(keep_quantised: bool) -> LoadOptions {
    LoadOptions { dtype: Some(Dtype::Float32), keep_quantised: Some(keep_quantised), ..LoadOptions::default() }
}

fn exact(entry: &Entry) -> f32 {
    entry.bound("f32", if entry.about["oracle"] == "mlx-lm" { AGAINST_MLX } else { AGAINST_TORCH })
}

/// Whether a pattern of the entry covers a site.
fn covered<'a>(patterns: impl IntoIterator<Item = &'a str>, site: &str) -> bool {
    patterns.into_iter().any(|p| fancy_regex::Regex::new(p).unwrap().is_match(site).unwrap())
}

/// Logits and every shared site in float32.
fn in_float32(entry: &Entry, model: &Model, found: &mut Findings) {
    let Some(trace) = found.need("trace", model.trace(entry.ids())) else { return };
    let bound = exact(entry);
    for site in entry.sites() {
        at_site(entry, model, &trace, &site, bound, found);
    }
    if let Some(logits) = found.need("logits", trace.output()) {
        found.compare("logits", "logits", &values(&logits), entry.expected.get("logits"), bound);
        if entry.expected.has("transformers.logits") {
            let second = row(&logits, 1, logits.dim(1));
            let theirs = entry.expected.get("transformers.logits");
            found.compare("transformers", "logits against transformers", &second, theirs, AGAINST_TORCH.max(bound));
        }
    }
    let short: Vec<Vec<u32>> = entry.ids().iter().map(|r| r[..entry.short()].to_vec()).collect();
    if let Some(logits) = found.need("short logits", model.forward(short)) {
        found.compare("logits", "short logits", &values(&logits), entry.expected.get("short.logits"), bound);
    }
}

fn at_site(
    entry: &Entry,
    model: &Model,
    trace: &mlxterp::core::trace::Trace,
    site: &Site,
    bound: f32,
    found: &mut Findings,
) {
    let strings = |key: &str| -> Vec<&str> {
        let about = &entry.about[key];
        let list = about.as_array().map(|l| l.iter().filter_map(|v| v.as_str()).collect::<Vec<_>>());
        list.or_else(|| Some(about.as_object()?.keys().map(String::as_str).collect())).unwrap_or_default()
    };
    let there = model.sites().resolve(&site.name).is_ok();
    let excused = covered(strings("absent"), &site.name);
    match (there, excused) {
        (false, true) => return found.apart += 1,
        (false, false) => return found.fail(&site.name, "there is no such site"),
        _ => {}
    }
    if covered(strings("differs"), &site.name) {
        return found.apart += 1;
    }
    let Some(value) = found.need(&site.name, trace.get(&site.name)) else { return };
    if value.dims() != site.shape {
        return found.fail(&site.name, format!("has the shape {:?}, expected {:?}", value.dims(), site.shape));
    }
    found.compared += 1;
    found.compare("sites", &site.name, &entry.sample(&values(&value)), entry.samples(site), bound);
}

/// A row of a padded batch is its solo run, at every site that has a position per token.
fn padded(entry: &Entry, model: &Model, found: &mut Findings) {
    let ids = entry.ids();
    let rows = [ids[0][..entry.short()].to_vec(), ids[1].clone()];
    let Some(together) = found.need("padded", model.trace(rows.to_vec())) else { return };
    let alone: Vec<_> = rows.iter().map(|r| model.trace(r.clone()).unwrap()).collect();
    let width = ids[1].len();
    let per_token: Vec<Site> =
        entry.sites().into_iter().filter(|s| s.shape.len() == 3 && s.shape[..2] == [2, width]).collect();
    let names = per_token.iter().map(|s| &*s.name).filter(|s| model.sites().resolve(s).is_ok()).chain(["output"]);
    for name in names {
        let Some(both) = found.need(name, together.get(name)) else { continue };
        for (r, tokens) in rows.iter().enumerate() {
            let Some(solo) = found.need(name, alone[r].get(name)) else { continue };
            if solo.dims()[..2] != [1, tokens.len()] {
                continue;
            }
            let what = format!("padded {name}, row {r}");
            found.compare(
                "padded",
                &what,
                &row(&both, r, tokens.len()),
                &values(&solo),
                entry.bound("padded", ROUNDING),
            );
        }
    }
}

/// A prompt, several tokens at once and single ones with a cache, against the full forward.
fn by_steps(entry: &Entry, model: &Model, found: &mut Findings) {
    let rows = entry.ids();
    let length = rows[0].len();
    let Some(full) = found.need("full forward", model.forward(rows.clone())) else { return };
    let mut cache = Cache::default();
    let mut at = 0;
    for n in [4, 3].into_iter().chain(std::iter::repeat_n(1, length - 7)) {
        let now: Vec<Vec<u32>> = rows.iter().map(|r| r[at..at + n].to_vec()).collect();
        let step = || -> mlxterp::Result<(Array, Cache)> {
            let trace = model.trace_with(now.clone(), &TraceOptions::default().after(&cache))?;
            Ok((trace.output()?, trace.cache()?))
        };
        let Some((logits, next)) = found.need(&format!("step at {at}"), step()) else { return };
        for r in 0..rows.len() {
            let whole = row(&full, r, length);
            let width = whole.len() / length;
            let want = &whole[at * width..(at + n) * width];
            found.compare(
                "steps",
                &format!("step at {at}, row {r}"),
                &row(&logits, r, n),
                want,
                entry.bound("steps", ROUNDING),
            );
        }
        (cache, at) = (next, at + n);
    }
}

fn in_bfloat16(entry: &Entry, found: &mut Findings) {
    let options = LoadOptions { dtype: Some(Dtype::Bfloat16), ..LoadOptions::default() };
    let Some(model) = found.need("bf16", entry.load(Stored::Bfloat16, &options)) else { return };
    let Some(logits) = found.need("bf16", model.forward(entry.ids())) else { return };
    let got = row(&logits, 1, logits.dim(1));
    if entry.expected.has("bf16.logits") {
        let usual = if entry.about["oracle"] == "mlx-lm" { HALF_AGAINST_MLX } else { HALF_AGAINST_TORCH };
        found.compare("bf16", "bf16 logits", &got, entry.expected.get("bf16.logits"), entry.bound("bf16", usual));
    } else {
        let want = entry.expected.get("logits");
        let bound = entry.bound("bf16", HALF_AGAINST_FLOAT);
        found.compare("bf16", "bf16 logits against float32", &got, &want[want.len() - got.len()..], bound);
    }
}

fn in_4_bits(entry: &Entry, found: &mut Findings) {
    if !entry.has_packed() {
        return;
    }
    for (keep, what) in [(false, "4-bit, unpacked"), (true, "4-bit, packed")] {
        let Some(model) = found.need(what, entry.load(Stored::Packed, &float32(keep))) else { continue };
        let Some(logits) = found.need(what, model.forward(entry.ids())) else { continue };
        let bound = entry.bound("packed", AGAINST_TORCH);
        found.compare("packed", what, &values(&logits), entry.expected.get("packed.logits"), bound);
    }
}

/// config.json as transformers writes it says the same.
fn with_the_other_config(entry: &Entry, model: &Model, found: &mut Findings) {
    if entry.about["saved_config"].is_null() {
        return;
    }
    let Some(other) = found.need("transformers' config.json", entry.load(Stored::OtherConfig, &float32(false))) else {
        return;
    };
    let Some(want) = found.need("logits", model.forward(entry.ids())) else { return };
    if let Some(got) = found.need("transformers' config.json", other.forward(entry.ids())) {
        found.compare("other config", "logits with transformers' config.json", &values(&got), &values(&want), 0.0);
    }
}

fn check(entry: &Entry) -> Findings {
    let mut found = Findings::default();
    if let Some(model) = found.need("load", entry.load(Stored::Float32, &float32(false))) {
        found.description = model.info().description;
        in_float32(entry, &model, &mut found);
        padded(entry, &model, &mut found);
        if !entry.looks_ahead() {
            by_steps(entry, &model, &mut found);
        }
        contract(entry, &model, &mut found);
        with_the_other_config(entry, &model, &mut found);
        in_bfloat16(entry, &mut found);
        in_4_bits(entry, &mut found);
    }
    found
}

/// Names keep their promises, on every layer.
fn contract(entry: &Entry, model: &Model, found: &mut Findings) {
    let layers: Vec<usize> = (0..model.num_layers()).collect();
    let ids = entry.ids();
    let mut contract = Contract::new(model, &ids).excusing(entry.excused());
    contract.names();
    contract.writes(&layers);
    contract.slopes();
    found.failures.extend(contract.failures());
}

#[test]
fn every_architecture_computes_what_its_reference_does() {
    let mut failures = Vec::new();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for entry in Entry::chosen() {
        let start = std::time::Instant::now();
        let found = check(&entry);
        let worst: Vec<String> = found.worst.iter().map(|(kind, off)| format!("{kind} {off:.0e}")).collect();
        println!(
            "{:28} {} sites, {} apart; {}; {:.1} s{}",
            entry.name,
            found.compared,
            found.apart,
            worst.join(", "),
            start.elapsed().as_secs_f32(),
            if found.failures.is_empty() { "" } else { "  FAILED" }
        );
        failures.extend(found.failures.iter().map(|f| format!("{}: {f}", entry.name)));
        for model_type in entry.model_types() {
            add(rows.entry(model_type.to_owned()).or_default(), &entry, &found);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    if asked_for().is_none() {
        table::same(&rows);
    }
}

fn add(row: &mut Row, entry: &Entry, found: &Findings) {
    row.description.clone_from(&found.description);
    let reference = match (entry.about["oracle"].as_str(), entry.about["references_apart"].as_f64()) {
        (Some("mlx-lm"), Some(_)) => "both",
        (Some(one), _) => one,
        _ => "nobody",
    };
    if !row.references.iter().any(|r| r == reference) {
        row.references.push(reference.to_owned());
    }
    for (kind, off) in &found.worst {
        let worst = row.worst.entry(kind).or_default();
        *worst = worst.max(*off);
    }
    row.compared += found.compared;
    row.apart += found.apart;
    if let Some(why) = entry.about["deviates"].as_str() {
        let effect = entry.about["references_apart"].as_f64().unwrap_or_default();
        row.deviations.push(format!("{why} ({effect:.0e})"));
    }
}
