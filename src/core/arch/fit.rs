//! Which descriptions fit a checkpoint whose model type nobody has described.
//!
//! Every description of the library is compiled against the config and the tensor names. One that finds every tensor it
//! needs and leaves none over fits; which of several fits is right, names and shapes cannot tell (a Gemma's are a
//! Llama's), so the answer is a suggestion for a person, never a choice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::elaborate::{Survey, survey};
use super::{TensorInfo, library, plan_weights};

/// Keys that nearly every config has: reading them says nothing about which model it is.
const COMMON: [&str; 12] = [
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

/// A description that finds every tensor and leaves none over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Its name.
    pub name: String,
    /// The keys of config.json that it reads.
    pub keys: Vec<String>,
}

/// A description that nearly fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// Its name.
    pub name: String,
    /// Tensors it needs and does not find; numbers are written `*`.
    pub missing: Vec<String>,
    /// Tensors of the checkpoint that it does not use; numbers are written `*`.
    pub unused: Vec<String>,
}

/// What may be tried for a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Suggestion {
    /// What fits, best first: the one that reads the most keys of config.json that not every model has.
    pub fits: Vec<Fit>,
    /// When nothing fits, what comes closest.
    pub nearest: Option<Near>,
    keys: usize,
}

/// Tries every description of the library. `config` is normalised, `tensors` are the checkpoint's as they lie in it.
pub fn suggest(config: &Value, tensors: &BTreeMap<String, TensorInfo>) -> Suggestion {
    let keys = config.as_object().map_or(0, |m| m.len());
    let mut suggestion = Suggestion { keys, ..Suggestion::default() };
    let mut nearest: Option<(usize, Near)> = None;
    for name in library::names() {
        let Some(Survey { missing, unused, keys, complete }) = try_on(name, config, tensors) else { continue };
        if complete && missing.is_empty() && unused.is_empty() {
            suggestion.fits.push(Fit { name: name.to_owned(), keys });
            continue;
        }
        let near = Near { name: name.to_owned(), missing: folded(&missing), unused: folded(&unused) };
        // A run that stopped for another reason found out less than one that came to its end.
        let distance = near.missing.len() + near.unused.len() + if complete { 0 } else { 1000 };
        if nearest.as_ref().is_none_or(|(d, _)| distance < *d) {
            nearest = Some((distance, near));
        }
    }
    // Of equals the plainest first: one that builds upon no other.
    let derived = |f: &Fit| library::named(&f.name).is_ok_and(|d| d.is_derived());
    let telling = |f: &Fit| f.keys.iter().filter(|k| !COMMON.contains(&k.as_str())).count();
    suggestion.fits.sort_by_cached_key(|f| (std::cmp::Reverse(telling(f)), derived(f), f.name.clone()));
    if suggestion.fits.is_empty() {
        suggestion.nearest = nearest.filter(|(d, _)| *d < 1000).map(|(_, near)| near);
    }
    suggestion
}

fn try_on(name: &str, config: &Value, tensors: &BTreeMap<String, TensorInfo>) -> Option<Survey> {
    let description = library::named(name).ok()?;
    // A wrapper is for a config with another one inside.
    if description.is_wrapper() && config.get("text_config").is_none() {
        return None;
    }
    let plan = plan_weights(&description, config, tensors).ok()?;
    let shapes =
        plan.iter().map(|(n, e)| Ok((n.clone(), e.shape(tensors)?))).collect::<crate::error::Result<_>>().ok()?;
    survey(&description, config, &shapes)
}

/// Names with their numbers written `*`, each once.
fn folded(names: &[String]) -> Vec<String> {
    let fold = |name: &String| {
        let parts = name.split('.').map(|p| if p.parse::<u64>().is_ok() { "*" } else { p });
        parts.collect::<Vec<_>>().join(".")
    };
    let mut seen = BTreeSet::new();
    names.iter().map(fold).filter(|n| seen.insert(n.clone())).collect()
}

fn listed(names: &[String], most: usize) -> String {
    let some = names.iter().take(most).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
    if names.len() > most { format!("{some} and {} more", names.len() - most) } else { some }
}

impl Suggestion {
    /// The suggestion in words, for the end of an error message.
    pub fn in_words(&self, model_type: &str) -> String {
        if let [best, ..] = self.fits.as_slice() {
            let common: BTreeSet<&String> = best
                .keys
                .iter()
                .filter(|k| self.fits.len() > 1 && self.fits.iter().all(|f| f.keys.contains(k)))
                .collect();
            let one = |f: &Fit| {
                let telling: Vec<String> = f.keys.iter().filter(|k| !common.contains(k)).cloned().collect();
                let among = if telling.is_empty() || self.fits.len() == 1 {
                    String::new()
                } else {
                    format!(", {} among them", listed(&telling, 3))
                };
                format!("'{}' (reads {} of config.json's {} keys{among})", f.name, f.keys.len(), self.keys)
            };
            let fits: Vec<String> = self.fits.iter().take(5).map(one).collect();
            return format!(
                "its tensors fit, best first: {}. Tensor names cannot tell such models apart, so none is taken by itself: \
                 look up what the model computes, then load it with arch='{}', or with a description that says what is \
                 different ('arch {model_type} from {}')",
                fits.join(", "),
                best.name,
                best.name
            );
        }
        match &self.nearest {
            Some(n) => {
                let part = |what: &str, names: &[String]| match names.len() {
                    0 => String::new(),
                    k => format!("; {what} {k} of its tensors: {}", listed(names, 6)),
                };
                format!(
                    "no description fits its tensors. Nearest is '{}'{}{}. 'mlxterp arch {}' prints it, to start from",
                    n.name,
                    part("the checkpoint lacks", &n.missing),
                    match n.unused.len() {
                        0 => String::new(),
                        k => format!("; it leaves {k} of the checkpoint's unused: {}", listed(&n.unused, 6)),
                    },
                    n.name
                )
            }
            None => "no description fits its tensors, and none comes near".to_owned(),
        }
    }
}
