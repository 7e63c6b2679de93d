//! A model in numbers and as a tree.

use std::fmt;

use serde::Serialize;

use super::Model;
use crate::core::tensor;

/// What `mlxterp info` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// What was asked for.
    pub name: String,
    /// `model_type` of the config.
    pub model_type: String,
    /// The description that drives it.
    pub description: String,
    /// Number of layers.
    pub num_layers: usize,
    /// Number of query heads.
    pub num_heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Token ids.
    pub vocab_size: usize,
    /// Parameters.
    pub parameters: usize,
    /// Bytes that the parameters hold in memory.
    pub bytes: usize,
    /// The dtype in which it computes.
    pub dtype: &'static str,
    /// `cpu`, `metal` or `cuda`.
    pub backend: &'static str,
    /// What `Main` takes: `ids` for token ids, else names of arrays.
    pub inputs: Vec<String>,
    /// Number of named values.
    pub sites: usize,
    /// How many of them mean provably what their name says (see [`Model::capabilities`]).
    pub verified_sites: usize,
    /// Short names that rest on the description's word, layers folded (`layers.*.attn.q`).
    pub unverified: Vec<String>,
    /// Modules of experts.
    pub experts: Vec<ExpertsInfo>,
    /// The module tree, in order.
    pub modules: Vec<ModuleInfo>,
}

/// A module of experts, each of which has values of its own: `layers.3.mlp.experts.7.output`.
#[derive(Clone, Debug, Serialize)]
pub struct ExpertsInfo {
    /// The name on every architecture, then the full path.
    pub names: Vec<String>,
    /// How many experts it has.
    pub count: usize,
    /// Values that each of them has.
    pub values: Vec<String>,
}

/// A module of the tree.
#[derive(Clone, Debug, Serialize)]
pub struct ModuleInfo {
    /// Full path.
    pub path: String,
    /// `Linear`, `RmsNorm`, a block's name.
    pub kind: String,
    /// Its weight's shape, in full precision.
    pub shape: Option<Vec<usize>>,
    /// How the weight is held: a dtype or `4-bit affine, group 64`.
    pub held_as: Option<String>,
}

impl Model {
    /// The model in numbers.
    pub fn info(&self) -> Info {
        let inner = self.inner();
        let modules = inner.program.modules.iter().map(|m| {
            let weight = m.tensors.iter().find(|t| inner.program.tensors[**t as usize].ends_with(".weight")).copied();
            let array = weight.and_then(|t| inner.parameters.tensor(t).ok());
            let packed = weight.and_then(|t| inner.parameters.quantization(t));
            let shape = array.map(|a| {
                let mut dims = a.dims();
                if let (Some(q), Some(last)) = (packed, dims.last_mut()) {
                    *last = *last * 32 / q.bits;
                }
                dims
            });
            let held_as = array.map(|a| match packed {
                Some(q) => format!("{}-bit {}, group {}", q.bits, q.mode, q.group_size),
                None => a.dtype().to_string(),
            });
            ModuleInfo { path: m.path.clone(), kind: m.kind.clone(), shape, held_as }
        });
        Info {
            name: inner.name.clone(),
            model_type: inner.config["model_type"].as_str().unwrap_or("unknown").to_owned(),
            description: inner.program.arch.clone(),
            num_layers: self.num_layers(),
            num_heads: self.num_heads(),
            hidden_size: self.hidden_size(),
            vocab_size: self.vocab_size(),
            parameters: inner.parameters.count(),
            bytes: inner.parameters.byte_size(),
            dtype: inner.parameters.dtype.name(),
            backend: tensor::backend(),
            inputs: inner.program.inputs.clone(),
            sites: inner.program.hooks.len(),
            verified_sites: self.capabilities().iter().filter(|c| c.verified.is_some()).count(),
            unverified: self.unverified(),
            experts: self.sites().experts(),
            modules: modules.collect(),
        }
    }
}

impl Model {
    /// The standard names that nothing proves, each once for all layers.
    fn unverified(&self) -> Vec<String> {
        let unproven =
            |short: &String| self.sites().resolve(short).is_ok_and(|site| self.capabilities()[site].verified.is_none());
        let mut out: Vec<String> = Vec::new();
        for short in super::sites::standard_names(self.num_layers()).iter().filter(|s| unproven(s)) {
            let parts = short.split('.').map(|p| if p.parse::<usize>().is_ok() { "*" } else { p });
            let folded = parts.collect::<Vec<_>>().join(".");
            if !out.contains(&folded) {
                out.push(folded);
            }
        }
        out
    }
}

impl fmt::Display for Info {
    /// The tree, layers that look alike folded into one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}, description '{}')", self.name, self.model_type, self.description)?;
        let millions = self.parameters as f64 / 1e6;
        writeln!(
            f,
            "  {millions:.1} M parameters, {:.1} MB in memory, computing in {} on {}",
            self.bytes as f64 / 1e6,
            self.dtype,
            self.backend
        )?;
        writeln!(
            f,
            "  {} layers, {} heads, hidden {}, vocabulary {}, {} sites",
            self.num_layers, self.num_heads, self.hidden_size, self.vocab_size, self.sites
        )?;
        let word = match self.unverified.as_slice() {
            [] => "every short name".to_owned(),
            some => format!("every short name but {}", some.join(", ")),
        };
        writeln!(f, "  verified: {} sites, {word} ('mlxterp sites' lists them)", self.verified_sites)?;
        let mut skipped = false;
        for m in &self.modules {
            let parts: Vec<&str> = m.path.split('.').collect();
            let index = parts.iter().filter_map(|p| p.parse::<usize>().ok()).next_back();
            if index.is_some_and(|i| i > 0) {
                if !skipped {
                    writeln!(
                        f,
                        "{}… layers 1 to {} likewise",
                        "  ".repeat(parts.len().min(3)),
                        self.num_layers.saturating_sub(1)
                    )?;
                }
                skipped = true;
                continue;
            }
            let last = parts.last().copied().unwrap_or_default();
            write!(f, "{}{last}: {}", "  ".repeat(parts.len()), m.kind)?;
            match (&m.shape, &m.held_as) {
                (Some(s), Some(h)) => writeln!(f, " {s:?} {h}")?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}
