//! Names of config.json and of the `config:` section.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value as Json;

use super::value::Value;
use super::{Elaborator, Scope};
use crate::core::arch::ast::{Entry, Expr, Kind};
use crate::core::arch::description::Description;
use crate::core::arch::place::Pos;
use crate::error::Result;

/// config.json, and the entries worked out so far.
pub(super) struct Settings<'a> {
    pub json: &'a Json,
    pub whole: Value,
    done: HashMap<String, Value>,
    busy: Vec<String>,
    /// Keys of config.json that somebody asked for and that say something.
    read: BTreeSet<String>,
}

impl<'a> Settings<'a> {
    pub fn new(json: &'a Json) -> Self {
        Settings { json, whole: Value::from_json(json), done: HashMap::new(), busy: Vec::new(), read: BTreeSet::new() }
    }

    fn key(&mut self, name: &str) -> Option<Value> {
        let Value::Map(m) = &self.whole else { return None };
        let value = m.get(name).cloned()?;
        if !matches!(value, Value::None) && name != "model_type" {
            self.read.insert(name.to_owned());
        }
        Some(value)
    }

    /// The keys of config.json that were read, sorted.
    pub fn keys_read(&self) -> Vec<String> {
        self.read.iter().cloned().collect()
    }
}

impl Elaborator<'_> {
    /// A name that no block binds: an entry, a key, a constant.
    pub(super) fn setting(&mut self, name: &str, scope: &Scope, pos: Pos) -> Result<Value> {
        if scope.entry.as_deref() != Some(name)
            && let Some(entry) = self.arch.and_then(|a| a.config.get(name))
        {
            return self.entry(name, entry, scope, pos);
        }
        if name == "config" {
            return Ok(self.settings.whole.clone());
        }
        if let Some(v) = self.settings.key(name) {
            return Ok(v);
        }
        if name == "inf" {
            return Ok(Value::Float(f64::INFINITY));
        }
        if scope.lenient {
            return Ok(Value::None);
        }
        let known = scope.names.keys().map(String::as_str);
        let entries = self.arch.into_iter().flat_map(|a| a.config.keys().map(String::as_str));
        let mut known: Vec<&str> = known.chain(entries).collect();
        known.sort_unstable();
        let hint = crate::core::arch::expressions::did_you_mean(name, known);
        let place = if scope.path.is_empty() { "Main" } else { &scope.path };
        let message =
            format!("'{name}' is neither bound here, nor a config: entry, nor a key of config.json{hint} (in {place})");
        Err(scope.source.error(pos, message))
    }

    fn entry(&mut self, name: &str, entry: &Entry, scope: &Scope, pos: Pos) -> Result<Value> {
        if let Some(v) = self.settings.done.get(name) {
            return Ok(v.clone());
        }
        if self.settings.busy.iter().any(|b| b == name) {
            let circle = self.settings.busy.join(" -> ");
            return Err(scope.source.error(pos, format!("config entries depend on each other: {circle} -> {name}")));
        }
        self.settings.busy.push(name.to_owned());
        let mut inner = Scope::new(entry.source.clone(), "", None);
        inner.lenient = true;
        inner.entry = Some(name.to_owned());
        let value = self.eval(&entry.value, &mut inner);
        self.settings.busy.pop();
        let value = value?;
        self.settings.done.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// The keys of config.json that an expression depends on, with what they hold: `num_attention_heads is missing`.
    pub(super) fn keys_behind(&self, e: &Expr, scope: &Scope) -> Option<String> {
        let mut keys = BTreeSet::new();
        let mut seen = BTreeSet::new();
        collect(self.arch, e, scope.entry.as_deref(), &scope.names, &mut seen, &mut keys);
        let shown = keys.iter().take(6).map(|k| match self.settings.json.get(k) {
            None => format!("{k} is missing"),
            Some(v) => {
                let text = v.to_string();
                if text.len() > 60 { format!("{k} is {} bytes long", text.len()) } else { format!("{k} is {text}") }
            }
        });
        let shown: Vec<String> = shown.collect();
        if shown.is_empty() { None } else { Some(shown.join(", ")) }
    }
}

fn collect<'a>(
    arch: Option<&'a Description>,
    e: &'a Expr,
    own: Option<&str>,
    bound: &HashMap<String, Value>,
    seen: &mut BTreeSet<&'a str>,
    keys: &mut BTreeSet<String>,
) {
    let mut names: Vec<&'a str> = Vec::new();
    let mut local: Vec<&'a str> = Vec::new();
    e.walk(&mut |x| match &x.kind {
        Kind::Name(n) => names.push(n),
        Kind::Attribute(of, key) if matches!(&of.kind, Kind::Name(n) if n == "config") => names.push(key),
        Kind::Comprehension { clauses, .. } => {
            local.extend(clauses.iter().flat_map(|c| &c.targets).map(String::as_str));
        }
        Kind::Call(callee, _) => {
            if let Kind::Name(n) = &callee.kind {
                local.push(n);
            }
        }
        _ => {}
    });
    for name in names {
        if local.contains(&name) || bound.contains_key(name) || matches!(name, "config" | "i" | "inf") {
            continue;
        }
        match arch.and_then(|a| a.config.get(name)) {
            Some(_) if own == Some(name) => {
                keys.insert(name.to_owned());
            }
            Some(entry) if seen.insert(name) => {
                // What stands in the entry is not bound by the block.
                collect(arch, &entry.value, Some(name), &HashMap::new(), seen, keys);
            }
            Some(_) => {}
            None => {
                keys.insert(name.to_owned());
            }
        }
    }
}
