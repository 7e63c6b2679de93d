//! Sites and their names.
//!
//! A value has its full path (`model.layers.3.self_attn.output`), the same path with the standard words
//! (`layers.3.attn.output`), and both without `.output`. `layers.-1` counts from the end; `*` stands for one part.

use std::collections::HashMap;

use crate::core::arch::tape::Program;
use crate::error::{Error, Result, bail, err, nearest};

/// Number of a site: its place among [`Program::hooks`], which is execution order.
pub type SiteId = usize;

/// Names of values inside a layer that every architecture has unless it truly lacks the value.
const STANDARD: [&str; 15] = [
    "resid_pre", "resid_mid", "resid_post", "attn.q", "attn.k", "attn.v", "attn.z", "attn.scores", "attn.pattern",
    "attn.result", "mlp.gate", "mlp.up", "mlp.act", "mlp.pre", "mlp.output",
];

/// All names of a model's sites.
pub struct Sites {
    by_name: HashMap<String, SiteId>,
    paths: Vec<String>,
    standard: Vec<Option<String>>,
    layers: usize,
}

impl Sites {
    /// Reads the hooks and roles of a program.
    pub fn new(program: &Program) -> Result<Self> {
        let mut sites = Sites {
            by_name: HashMap::new(),
            paths: program.hooks.iter().map(|(name, _)| name.clone()).collect(),
            standard: vec![None; program.hooks.len()],
            layers: program.n_layers,
        };
        for id in 0..sites.paths.len() {
            let path = sites.paths[id].clone();
            sites.add(&path, id);
        }
        sites.add_layers(program);
        sites.add_roles(program)?;
        Ok(sites)
    }

    /// Adds a name and its short form; the first owner of a name keeps it.
    fn add(&mut self, name: &str, id: SiteId) {
        self.by_name.entry(name.to_owned()).or_insert(id);
        if let Some(module) = name.strip_suffix(".output") {
            self.by_name.entry(module.to_owned()).or_insert(id);
        }
    }

    fn add_standard(&mut self, name: String, id: SiteId) {
        self.add(&name, id);
        self.standard[id].get_or_insert(name);
    }

    fn add_layers(&mut self, program: &Program) {
        let Some((before, after)) = program.roles.get("layer").and_then(|l| l.split_once('*')) else { return };
        let words: Vec<(String, &str)> =
            ["attn", "mlp"].iter().filter_map(|w| Some((program.roles.get(*w)?.clone(), *w))).collect();
        let mid = program.roles.get("resid_mid").cloned();
        for id in 0..self.paths.len() {
            let path = self.paths[id].clone();
            let Some(rest) = path.strip_prefix(before) else { continue };
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (layer, rest) = rest.split_at(digits);
            let Some(rest) = rest.strip_prefix(after).filter(|_| !layer.is_empty()) else { continue };
            let inner = rest.strip_prefix('.').unwrap_or(rest);
            let named = words.iter().find_map(|(own, word)| {
                let tail = inner.strip_prefix(own.as_str())?;
                (tail.is_empty() || tail.starts_with('.')).then(|| format!("layers.{layer}.{word}{tail}"))
            });
            self.add_standard(named.unwrap_or_else(|| format!("layers.{layer}.{inner}")), id);
            let role = match inner {
                "input" => Some("resid_pre"),
                "output" => Some("resid_post"),
                _ if Some(inner) == mid.as_deref() => Some("resid_mid"),
                _ => None,
            };
            if let Some(role) = role {
                self.add(&format!("layers.{layer}.{role}"), id);
            }
        }
    }

    fn add_roles(&mut self, program: &Program) -> Result<()> {
        for (role, names) in [("embed", ["embed", "embed"]), ("norm", ["norm", "norm"]), ("head", ["lm_head", "head"])] {
            let Some(path) = program.roles.get(role) else { continue };
            for end in ["output", "input"] {
                if let Some(id) = self.by_name.get(&format!("{path}.{end}")).copied() {
                    for name in names {
                        self.add_standard(format!("{name}.{end}"), id);
                    }
                }
            }
        }
        let output = program.hooks.iter().rposition(|(_, h)| h.slot == program.output);
        let Some(output) = output else { bail!(Backend, "the description's result has no name") };
        for name in ["output", "logits"] {
            self.by_name.insert(name.to_owned(), output);
        }
        self.standard[output] = Some("output".to_owned());
        Ok(())
    }

    /// The site of a name.
    pub fn resolve(&self, name: &str) -> Result<SiteId> {
        if let Some(id) = self.by_name.get(name) {
            return Ok(*id);
        }
        if name.contains('*') {
            bail!(UnknownSite, "'{name}' names many sites: it can be changed, or listed, but not read as one value");
        }
        self.plain(name).and_then(|n| self.by_name.get(n.as_str()).copied()).ok_or_else(|| self.unknown(name))
    }

    /// The sites that a name or pattern means, in execution order; a pattern that matches nothing is an error.
    pub fn resolve_many(&self, pattern: &str) -> Result<Vec<SiteId>> {
        if !pattern.contains('*') {
            return self.resolve(pattern).map(|id| vec![id]);
        }
        let plain = self.plain(pattern).unwrap_or_else(|| pattern.to_owned());
        let wanted: Vec<&str> = plain.split('.').collect();
        let matches = |name: &str| {
            let mut parts = name.split('.');
            wanted.iter().all(|w| parts.next().is_some_and(|p| *w == "*" || *w == p)) && parts.next().is_none()
        };
        let mut found: Vec<SiteId> = self.by_name.iter().filter(|(n, _)| matches(n)).map(|(_, id)| *id).collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            let example = pattern.replace('*', "0");
            let why = self.unknown(&example);
            bail!(UnknownSite, "the pattern '{pattern}' matches no site ({})", why.message());
        }
        Ok(found)
    }

    /// A name with its other spellings undone: negative layers, a wrapper's `model.`, `probs`.
    fn plain(&self, name: &str) -> Option<String> {
        let mut changed = name.to_owned();
        if let Some(rest) = name.strip_prefix("model.model.") {
            changed = format!("model.{rest}");
        }
        if let Some(start) = changed.strip_suffix(".probs") {
            changed = format!("{start}.pattern");
        }
        let mut parts: Vec<String> = changed.split('.').map(str::to_owned).collect();
        for part in &mut parts {
            if let Some(back) = part.strip_prefix('-').and_then(|d| d.parse::<usize>().ok()) {
                *part = self.layers.checked_sub(back).filter(|_| back > 0)?.to_string();
            }
        }
        Some(parts.join("."))
    }

    fn unknown(&self, name: &str) -> Error {
        let parts: Vec<&str> = name.split('.').collect();
        let layer = parts.iter().position(|p| *p == "layers").and_then(|i| Some((i + 1, parts.get(i + 1)?)));
        if let Some((at, number)) = layer
            && let Ok(i) = number.parse::<i64>()
        {
            let mut fixed: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
            if i >= self.layers as i64 || i < -(self.layers as i64) {
                fixed[at] = self.layers.saturating_sub(1).to_string();
                let hint = self.hint(&fixed.join("."));
                return err!(UnknownSite, "no site '{name}': the model has {} layers{hint}", self.layers);
            }
            let value = parts[at + 1..].join(".");
            if STANDARD.contains(&value.as_str()) {
                return err!(
                    UnknownSite,
                    "no site '{name}': this model has no {value}, or its description does not name it; `mlxterp sites` lists what there is"
                );
            }
        }
        err!(UnknownSite, "no site '{name}'{}", self.hint(name))
    }

    fn hint(&self, name: &str) -> String {
        if self.by_name.contains_key(name) {
            return format!("; did you mean '{name}'?");
        }
        let mut all: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        all.sort_unstable();
        let close: Vec<String> = nearest(name, all, 3).into_iter().map(|n| format!("'{n}'")).collect();
        if close.is_empty() { String::new() } else { format!("; did you mean {}?", close.join(" or ")) }
    }

    /// Number of sites.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Full paths in execution order.
    pub fn names(&self) -> &[String] {
        &self.paths
    }

    /// Full path of a site.
    pub fn path(&self, site: SiteId) -> &str {
        &self.paths[site]
    }

    /// Short standard name of a site, where it has one.
    pub fn standard_name(&self, site: SiteId) -> Option<String> {
        self.standard[site].clone()
    }
}
