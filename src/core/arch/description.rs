//! A description, read and checked, its parents merged in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::ast::{Block, Entry};
use super::check;
use super::library;
use super::parser::parse_file;
use super::place::Pos;
use super::rules::{Rule, RuleLine};
use crate::error::{Result, bail};

/// Longest chain of `from` and `wraps`.
const MAX_PARENTS: usize = 8;

/// How a model computes, as data. Made from text; shared by every model that uses it.
#[derive(Clone, Debug)]
pub struct Description {
    pub(super) name: String,
    pub(super) types: Vec<String>,
    derived: bool,
    pub(super) config: HashMap<String, Entry>,
    pub(super) rules: Vec<RuleLine>,
    pub(super) roles: BTreeMap<String, (String, Pos)>,
    pub(super) blocks: HashMap<String, Arc<Block>>,
    /// The description inside a wrapper, and the path under which it lives.
    pub(super) wraps: Option<(Arc<Description>, String)>,
}

impl Description {
    /// Reads a description; `name` is what messages call it. It may build upon any description of the library
    /// (`arch mine from llama`).
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        Self::parse_with(text, name, &|parent| library::text(parent).map(str::to_owned))
    }

    /// Reads a description whose parents' texts come from `find`.
    pub fn parse_with(text: &str, name: &str, find: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        Self::parse_at(text, name, find, 0)
    }

    fn parse_at(text: &str, name: &str, find: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<Self> {
        let file = parse_file(text, name)?;
        let load = |parent: &str, pos: Pos| {
            if depth >= MAX_PARENTS {
                let message = format!("'{parent}' is the {MAX_PARENTS}th description in a row: do they go in circles?");
                return Err(file.source.error(pos, message));
            }
            match find(parent) {
                Some(text) => Self::parse_at(&text, parent, find, depth + 1),
                None => {
                    let known = library::names();
                    let hint = super::expressions::did_you_mean(parent, known.iter().copied());
                    let message = format!("the library has no description '{parent}'{hint}");
                    Err(file.source.error(pos, message))
                }
            }
        };
        let mut d = match &file.parent {
            Some((parent, pos)) => load(parent, *pos)?,
            None => Description {
                name: String::new(),
                types: Vec::new(),
                derived: false,
                config: HashMap::new(),
                rules: Vec::new(),
                roles: BTreeMap::new(),
                blocks: HashMap::new(),
                wraps: None,
            },
        };
        if let Some((inner, path, pos)) = &file.wraps {
            d.wraps = Some((Arc::new(load(inner, *pos)?), path.clone()));
        }
        d.name = file.name;
        d.derived = file.parent.is_some();
        d.types = file.types;
        d.config.extend(file.config);
        for rule in file.rules {
            match rule.rule {
                Rule::Clear => d.rules.clear(),
                _ => d.rules.push(rule),
            }
        }
        if d.rules.len() > 256 {
            bail!(Description, "{name}: more than 256 weight rules");
        }
        d.roles.extend(file.roles.into_iter().map(|(role, path, pos)| (role, (path, pos))));
        let own: Vec<String> = file.blocks.iter().map(|b| b.name.clone()).collect();
        d.blocks.extend(file.blocks.into_iter().map(|b| (b.name.clone(), Arc::new(b))));
        if d.wraps.is_none() && file.parent.is_none() && !d.blocks.contains_key("Main") {
            bail!(Description, "{name}: expected a block 'Main(ids):', found none");
        }
        check::check(&mut d, &own)?;
        Ok(d)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is for a model inside another.
    pub(super) fn is_wrapper(&self) -> bool {
        self.wraps.is_some()
    }

    /// Whether it builds upon another one.
    pub(super) fn is_derived(&self) -> bool {
        self.derived
    }

    /// The `model_type`s it is meant for.
    pub fn model_types(&self) -> &[String] {
        &self.types
    }

    /// The roles it names, sorted; a wrapper's are those of the description inside.
    pub fn role_names(&self) -> Vec<&str> {
        let of = self.wraps.as_ref().map_or(self, |(inner, _)| inner);
        of.roles.keys().map(String::as_str).collect()
    }

    /// For a wrapper, the description inside; and the configuration that the computing description reads.
    ///
    /// What is inside is decided by `text_config.model_type`; by the wrapper's own word where there is no such key.
    pub(super) fn unwrapped(&self, config: &Value) -> Result<(Option<Arc<Description>>, Value)> {
        let Some((inner, _)) = &self.wraps else {
            return Ok((None, config.clone()));
        };
        let mut sub = match config.get("text_config") {
            Some(Value::Object(text)) => text.clone(),
            _ => config.as_object().cloned().unwrap_or_default(),
        };
        for key in ["quantization", "quantization_config", "tie_word_embeddings"] {
            if let (Some(v), false) = (config.get(key), sub.contains_key(key)) {
                sub.insert(key.to_owned(), v.clone());
            }
        }
        // `qwen3_vl_text` inside `qwen3_vl` is the wrapper's own unless it has a description, and so is a flat
        // configuration.
        let own = config.pointer("/text_config/model_type").and_then(Value::as_str).filter(|t| {
            let known = |k: &String| k == t || t.strip_suffix("_text") == Some(k);
            library::supported().contains(t) || !self.types.iter().any(known)
        });
        let inner = match own.map(|t| (t, library::for_model_type(t))) {
            Some((_, Ok(d))) if d.wraps.is_none() => d,
            // A shipped wrapper serves many models, so its own word is no guess to run on.
            Some((t, _)) if library::text(&self.name).is_some() => bail!(
                Unsupported,
                "'{}' wraps a language model of type '{t}' (text_config.model_type), which has no description. To add one, \
                 pass a description with the option arch=: one line such as 'arch mine from {} wraps llama under {}' if it \
                 computes as Llama does",
                self.name,
                self.name,
                self.wraps.as_ref().map_or("language_model", |(_, path)| path)
            ),
            _ => inner.clone(),
        };
        Ok((Some(inner), Value::Object(sub)))
    }
}
