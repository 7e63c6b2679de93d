//! What the tests of edges and circuits share: PyTorch's numbers, pairs of prompts, comparisons.

use std::collections::BTreeMap;

use mlxterp::analysis::circuits::{Edge, EdgeAttribution, EdgeAttributionOptions, EdgeMethod, edge_attribution};
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::utils::Metric;
use serde_json::Value;

use super::entry::{Entry, Stored};
use super::fixture;

pub fn facts() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("edges/expected.json")).unwrap()).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|i| i.as_u64().unwrap() as u32).collect()
}

pub fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

pub fn names(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

pub fn metric() -> Metric {
    Metric::logit_difference(3u32, 7u32)
}

pub fn name(e: &Edge) -> String {
    format!("{} {}", e.from, e.to)
}

pub fn by_name(found: &EdgeAttribution) -> BTreeMap<String, f32> {
    found.edges.iter().map(|e| (name(e), e.score)).collect()
}

pub fn scores(model: &Model, facts: &Value, method: EdgeMethod, steps: usize, chunk: usize) -> EdgeAttribution {
    let options = EdgeAttributionOptions { method, steps, chunk, ..Default::default() };
    edge_attribution(model, ids(&facts["clean"]), ids(&facts["corrupt"]), &metric(), &options, None).unwrap()
}

/// Ranks, ties in the order given.
pub fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    order.iter().enumerate().for_each(|(r, i)| ranks[*i] = r as f64);
    ranks
}

/// Spearman's rank correlation.
pub fn rank_correlation(a: &[f32], b: &[f32]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

pub fn entry(name: &str) -> (Model, Vec<u32>, Vec<u32>) {
    let entry = Entry::read(name);
    let model = entry.load(Stored::Float32, &LoadOptions::default()).unwrap();
    let row = entry.ids().swap_remove(0);
    let clean = row[..7].to_vec();
    let mut corrupt = clean.clone();
    (corrupt[2], corrupt[5]) = (row[9], row[10]);
    (model, clean, corrupt)
}

/// Pairs for the trained model: eight words and one of them again, after which its successor must come. The corrupt prompts
/// are of other words, none twice.
pub fn induction_pairs(n: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>, Metric) {
    let (mut clean, mut corrupt, mut answers, mut wrongs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..n as u32 {
        // Distinct words from a stride that is prime to their number.
        let words: Vec<u32> = (0..17).map(|k| 2 + (i * 31 + k * 11) % 126).collect();
        let at = 2 + (i as usize * 3) % 5;
        let mut row = vec![0];
        row.extend(&words[..8]);
        row.push(words[at]);
        clean.push(row);
        corrupt.push([&[0], &words[8..]].concat());
        answers.push(mlxterp::utils::Token::Id(words[at + 1]));
        wrongs.push(mlxterp::utils::Token::Id(words[(at + 3) % 8]));
    }
    let metric = Metric::LogitDifference {
        answer: mlxterp::utils::Tokens::ByRow(answers),
        wrong: mlxterp::utils::Tokens::ByRow(wrongs),
    };
    (clean, corrupt, metric)
}
