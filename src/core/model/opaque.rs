//! Functions of the host for the opaque modules of a description.

use std::collections::HashMap;

use crate::core::arch::tape::{Op, Program};
use crate::core::trace::Opaque;
use crate::error::{Result, bail, nearest};

/// Functions by path (`model.layers.3.mlp.router`), pattern (`model.layers.*.mlp.router`) or name (`router`).
pub(crate) struct Functions<'a>(pub &'a [(String, Opaque)]);

/// How closely a key means a module; the closest wins.
fn closeness(key: &str, path: &str) -> Option<u8> {
    if key == path {
        return Some(3);
    }
    let (k, p): (Vec<&str>, Vec<&str>) = (key.split('.').collect(), path.split('.').collect());
    if key.contains('*') && k.len() == p.len() && k.iter().zip(&p).all(|(k, p)| *k == "*" || k == p) {
        return Some(2);
    }
    // The declared name: the last part that is no number of a list.
    let name = p.iter().rev().find(|part| part.parse::<usize>().is_err());
    (name == Some(&key)).then_some(1)
}

impl Functions<'_> {
    /// The function of every opaque instruction. Each module needs one, and each function a module.
    pub fn bind(&self, program: &Program) -> Result<HashMap<u32, Opaque>> {
        let modules = program.instrs.iter().enumerate().filter(|(_, instr)| instr.op == Op::Opaque);
        let modules: Vec<(u32, &str)> = modules.map(|(i, instr)| (i as u32, instr.path.as_str())).collect();
        let mut used = vec![false; self.0.len()];
        let mut bound = HashMap::new();
        for (instr, path) in &modules {
            let fitting = self.0.iter().enumerate().filter_map(|(at, (key, _))| Some((closeness(key, path)?, at)));
            // Of two that are equally close the one given first.
            let Some((_, at)) = fitting.max_by_key(|(close, at)| (*close, std::cmp::Reverse(*at))) else {
                let name = path.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(path);
                bail!(
                    NotFound,
                    "the opaque module '{path}' of the description '{}' has no function: give one under its path or \
                     its name '{name}'",
                    program.arch
                );
            };
            used[at] = true;
            bound.insert(*instr, self.0[at].1.clone());
        }
        // A function that a closer one replaced everywhere is a mistake too.
        if let Some(at) = used.iter().position(|u| !u) {
            let key = &self.0[at].0;
            if modules.is_empty() {
                bail!(
                    NotFound,
                    "a function was given for '{key}', but the description '{}' has no opaque module",
                    program.arch
                );
            }
            let near = nearest(key, modules.iter().map(|(_, path)| *path), 1);
            let hint = near.first().map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
            bail!(
                NotFound,
                "a function was given for '{key}', which means no opaque module (or others are closer){hint}"
            );
        }
        Ok(bound)
    }
}
