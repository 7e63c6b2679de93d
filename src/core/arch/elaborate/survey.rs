//! Trying a description on a checkpoint: what it would need, what it would leave over.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Elaborator, on_a_large_stack};
use crate::core::arch::description::Description;

/// Most tensors made up before giving up.
const MAX_MISSING: usize = 12;
/// Most layers for which a missing tensor is made up at once.
const MAX_LAYERS: usize = 512;

/// How a description and a checkpoint get along.
#[derive(Clone, Debug, Default)]
pub(in crate::core::arch) struct Survey {
    /// Tensors it needs and does not find.
    pub missing: Vec<String>,
    /// Tensors it does not use, when it came to its end.
    pub unused: Vec<String>,
    /// Keys of config.json that it reads.
    pub keys: Vec<String>,
    /// Whether it came to its end, missing tensors made up.
    pub complete: bool,
}

/// Compiles `description` as far as it goes. None when no thread can be had for it.
pub(in crate::core::arch) fn survey(
    description: &Description,
    config: &Json,
    tensors: &BTreeMap<String, Vec<usize>>,
) -> Option<Survey> {
    let (inner, config) = description.unwrapped(config).ok()?;
    let root = description.wraps.as_ref().map_or("", |(_, path)| path);
    let arch = inner.as_deref().unwrap_or(description);
    on_a_large_stack(|| run(arch, &config, tensors, root)).ok()
}

fn run(arch: &Description, config: &Json, tensors: &BTreeMap<String, Vec<usize>>, root: &str) -> Survey {
    let mut known = tensors.clone();
    let mut survey = Survey::default();
    loop {
        let mut e = Elaborator::new(arch, config, &known, root);
        e.surveying = true;
        let result = e.compile(arch);
        survey.keys = e.settings.keys_read();
        if result.is_ok() {
            survey.complete = true;
            survey.unused = tensors.keys().filter(|n| !e.tensor_ids.contains_key(*n)).cloned().collect();
            return survey;
        }
        let Some(missing) = e.missing.take() else { return survey };
        if survey.missing.len() == MAX_MISSING || known.contains_key(&missing) {
            return survey;
        }
        // A shape of no axes stands for one that is not known; the same tensor of every layer is made up at once.
        for name in siblings(&missing) {
            known.entry(name).or_default();
        }
        survey.missing.push(missing);
    }
}

/// The tensor of every layer, by the first number in its name.
fn siblings(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.iter().position(|p| p.parse::<u32>().is_ok()) {
        None => vec![name.to_owned()],
        Some(at) => {
            let (before, after) = (parts[..at].join("."), parts[at + 1..].join("."));
            (0..MAX_LAYERS).map(|i| format!("{before}.{i}.{after}")).collect()
        }
    }
}
