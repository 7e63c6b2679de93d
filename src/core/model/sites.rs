//! Names of values: module paths as the checkpoint spells them, and the short names that are the same on every model.

mod parts;

use rustc_hash::FxHashMap;

use self::parts::Parts;
use super::experts::{Group, Routing};
use crate::core::arch::tape::Program;
use crate::error::{Result, bail, err, nearest};

/// A site: an index into [`Program::hooks`].
pub type SiteId = usize;

/// Values inside an attention module that have a short name.
const IN_ATTENTION: [&str; 7] = ["q", "k", "v", "scores", "pattern", "z", "result"];
/// Values inside an MLP that have a short name.
const IN_MLP: [&str; 4] = ["gate", "up", "pre", "act"];
/// Values of a mixture of experts that have a short name.
const IN_EXPERTS: [&str; 3] = ["router", "experts.chosen", "experts.weights"];

/// The short names that models have in common, for a number of layers; which of them a model has is for it to say.
pub(super) fn standard_names(n_layers: usize) -> Vec<String> {
    let mut names: Vec<String> = ["embed", "pos_embed", "norm", "lm_head", "output"].map(str::to_owned).to_vec();
    for i in 0..n_layers {
        let of_layer = ["input", "output", "resid_mid", "attn", "attn_add", "mixer", "mlp", "mlp_add"];
        names.extend(of_layer.iter().map(|n| format!("layers.{i}.{n}")));
        names.extend(IN_ATTENTION.iter().map(|n| format!("layers.{i}.attn.{n}")));
        names.extend(IN_MLP.iter().map(|n| format!("layers.{i}.mlp.{n}")));
    }
    names
}

/// The named values of a model.
#[derive(Clone, Debug)]
pub struct Sites {
    /// Full paths in execution order; a [`SiteId`] is an index.
    paths: Vec<String>,
    /// Every exact name: full paths, modules (meaning their output) and short names.
    exact: FxHashMap<String, SiteId>,
    /// The exact names in a stable order, for patterns and suggestions.
    ordered: Vec<String>,
    standard: FxHashMap<SiteId, String>,
    /// `model.layers.`
    layers: Option<String>,
    /// What the checkpoint calls the modules that `attn`, `mlp` and `mixer` mean.
    renamed: Vec<(&'static str, String)>,
    n_layers: usize,
    /// Modules of experts, as in [`Program::experts`].
    pub(super) experts: Vec<Group>,
}

impl Sites {
    /// Reads the sites off a tape.
    pub fn new(program: &Program) -> Result<Self> {
        let role = |name: &str| program.roles.get(name).map(String::as_str);
        let layers = match role("layer") {
            None => None,
            Some(path) => match path.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => Some(prefix.to_owned()),
                _ => bail!(
                    Description,
                    "{}: the role 'layer' must be a path that ends in '*', found '{path}'",
                    program.arch
                ),
            },
        };
        let mut sites = Sites {
            paths: program.hooks.iter().map(|(name, _)| name.clone()).collect(),
            exact: FxHashMap::default(),
            ordered: Vec::new(),
            standard: FxHashMap::default(),
            layers,
            renamed: ["attn", "mlp", "mixer"]
                .into_iter()
                .filter_map(|r| Some((r, role(r)?.to_owned())))
                .filter(|(_, own)| own != ".")
                .collect(),
            n_layers: program.n_layers,
            experts: Vec::new(),
        };
        for site in 0..sites.paths.len() {
            sites.know(&sites.paths[site].clone(), site);
        }
        sites.short_names(program);
        for site in 0..sites.paths.len() {
            // A module's name means its output, a later call's number stays at the end.
            let path = sites.paths[site].clone();
            let (path, call) = path.split_once('#').map_or((&*path, None), |(p, n)| (p, Some(n)));
            if let Some(module) = path.strip_suffix(".output") {
                let name = call.map_or_else(|| module.to_owned(), |n| format!("{module}#{n}"));
                sites.know(&name, site);
            }
            if let Some(pattern) = path.strip_suffix(".pattern") {
                let name = call.map_or_else(|| format!("{pattern}.probs"), |n| format!("{pattern}.probs#{n}"));
                sites.know(&name, site);
            }
        }
        Ok(sites)
    }

    fn know(&mut self, name: &str, site: SiteId) {
        if !self.exact.contains_key(name) {
            self.exact.insert(name.to_owned(), site);
            self.ordered.push(name.to_owned());
        }
    }

    /// Gives `short` to the site called `path`, if there is one.
    fn standard(&mut self, short: &str, path: &str) {
        if let Some(site) = self.exact.get(path).copied() {
            self.standard.entry(site).or_insert_with(|| short.to_owned());
            self.know(short, site);
        }
    }

    /// A module's short names: its input, its output, and the output by the module's name alone.
    fn module(&mut self, short: &str, path: &str) {
        self.ends(short, &format!("{path}.input"), &format!("{path}.output"));
    }

    fn ends(&mut self, short: &str, input: &str, output: &str) {
        self.standard(&format!("{short}.output"), output);
        self.standard(short, output);
        self.standard(&format!("{short}.input"), input);
    }

    fn short_names(&mut self, program: &Program) {
        let role = |name: &str| program.roles.get(name).map(String::as_str);
        self.standard("ids", "ids");
        self.standard("output", "output");
        self.standard("logits", "output");
        for (short, name) in
            [("embed", "embed"), ("pos_embed", "pos_embed"), ("norm", "norm"), ("lm_head", "head"), ("head", "head")]
        {
            if let Some(path) = role(name) {
                self.module(short, path);
            }
        }
        let Some(layers) = self.layers.clone() else { return };
        let parts = Parts::of(program);
        for i in 0..self.n_layers {
            let (short, layer) = (format!("layers.{i}"), format!("{layers}{i}"));
            self.module(&short, &layer);
            self.standard(&format!("{short}.resid_pre"), &format!("{layer}.input"));
            self.standard(&format!("{short}.resid_post"), &format!("{layer}.output"));
            if let Some(name) = role("resid_mid") {
                self.standard(&format!("{short}.resid_mid"), &format!("{layer}.{name}"));
            }
            let inside: [(&str, &[&str]); 3] = [("attn", &IN_ATTENTION), ("mlp", &IN_MLP), ("mixer", &[])];
            for (module, values) in inside {
                // Where the layer itself holds the module's matrices, or more than it is in one of its own, the ends have
                // roles too: paths from the layer. A dot: the layer has the values, but no ends.
                let end = |end: &str| role(&format!("{module}.{end}")).map(|own| format!("{layer}.{own}"));
                let (input, output) = (end("input"), end("output"));
                let inlined = role(module) == Some(".");
                let path = match role(module) {
                    Some(".") => layer.clone(),
                    Some(name) => {
                        let path = format!("{layer}.{name}");
                        if output.is_none() && !parts.is(module, name, &path) {
                            continue;
                        }
                        path
                    }
                    None if output.is_some() => layer.clone(),
                    None => continue,
                };
                let (input, output) =
                    (input.unwrap_or(format!("{path}.input")), output.unwrap_or(format!("{path}.output")));
                if !inlined {
                    self.ends(&format!("{short}.{module}"), &input, &output);
                }
                for value in values {
                    let own = role(&format!("{module}.{value}")).unwrap_or(value);
                    self.standard(&format!("{short}.{module}.{value}"), &format!("{path}.{own}"));
                }
                // What is added to the residual stream: after the norm in sandwich models.
                let added = match role(&format!("{module}_add")) {
                    Some(own) => format!("{layer}.{own}"),
                    None if inlined => continue,
                    None => output,
                };
                self.standard(&format!("{short}.{module}_add"), &added);
            }
            self.standard(&format!("{short}.attn.probs"), &format!("{short}.attn.pattern"));
        }
        self.mixtures(program, &layers);
        self.inside_layers(&layers, &parts);
    }

    /// Names inside mixtures of experts.
    fn mixtures(&mut self, program: &Program, layers: &str) {
        let mlp = program.roles.get("mlp").map(String::as_str);
        for experts in &program.experts {
            let place = experts.path.strip_prefix(layers).and_then(|rest| rest.split_once('.'));
            let in_mlp = place.filter(|(_, inside)| mlp.is_some_and(|m| inside.starts_with(&format!("{m}."))));
            let short = in_mlp.map(|(number, _)| format!("layers.{number}.mlp"));
            self.experts.push(Group::new(experts, short.as_ref().map(|s| format!("{s}.experts")), program));
            let Some(short) = short else { continue };
            let routing = Routing::of(experts, program);
            for (name, site) in IN_EXPERTS.into_iter().zip([routing.router, routing.chosen, routing.weights]) {
                let own = program.roles.get(&format!("mlp.{name}"));
                let given = own.and_then(|own| {
                    let layer = short.strip_suffix(".mlp")?.strip_prefix("layers.")?;
                    self.exact.get(&format!("{layers}{layer}.{}.{own}", mlp?)).copied()
                });
                if let Some(site) = given.or(site) {
                    let short = format!("{short}.{name}");
                    self.standard.entry(site).or_insert_with(|| short.clone());
                    self.know(&short, site);
                }
            }
            for site in 0..self.paths.len() {
                if let Some(tail) = self.paths[site].strip_prefix(&experts.path).filter(|t| t.starts_with('.')) {
                    let name = format!("{short}.experts{tail}");
                    self.standard.entry(site).or_insert_with(|| name.clone());
                    self.know(&name, site);
                }
            }
            if let Some(site) = self.exact.get(&format!("{}.output", experts.path)).copied() {
                self.know(&format!("{short}.experts"), site);
            }
        }
    }

    /// Every other value of a layer, under the layer's and the module's short name: `layers.3.attn.q_proj.output`.
    fn inside_layers(&mut self, layers: &str, parts: &Parts<'_>) {
        for site in 0..self.paths.len() {
            let Some(rest) = self.paths[site].strip_prefix(layers) else { continue };
            let Some((number, inside)) = rest.split_once('.') else { continue };
            let renamed = self.renamed.iter().find_map(|(role, own)| {
                let tail = inside.strip_prefix(own.as_str()).filter(|t| t.starts_with('.'))?;
                if !parts.is(role, own, &format!("{layers}{number}.{own}")) {
                    return None;
                }
                Some(format!("layers.{number}.{role}{tail}"))
            });
            // A short name that means another value stays with it.
            let free = renamed.filter(|name| self.exact.get(name).is_none_or(|other| *other == site));
            let short = free.unwrap_or_else(|| format!("layers.{number}.{inside}"));
            self.standard.entry(site).or_insert_with(|| short.clone());
            self.know(&short, site);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// All full names, in execution order.
    pub fn names(&self) -> &[String] {
        &self.paths
    }

    /// The full name of a site.
    pub fn path(&self, site: SiteId) -> &str {
        &self.paths[site]
    }

    /// The short name of a site, if it has one.
    pub fn standard_name(&self, site: SiteId) -> Option<String> {
        self.standard.get(&site).cloned()
    }

    /// A name that stands in the table as it is.
    pub(super) fn known(&self, name: &str) -> Option<SiteId> {
        self.exact.get(name).copied()
    }

    /// The site that a name means.
    pub fn resolve(&self, name: &str) -> Result<SiteId> {
        match self.exact.get(name) {
            Some(site) => Ok(*site),
            None if name.contains('*') => Err(err!(
                UnknownSite,
                "'{name}' names many sites: it can be changed or listed, but not read as one value"
            )),
            None => self.find(name).ok_or_else(|| self.unknown(name)),
        }
    }

    /// The sites that a name or a pattern means, in execution order: `*` stands for any one part of a path.
    pub fn resolve_many(&self, pattern: &str) -> Result<Vec<SiteId>> {
        if !pattern.contains('*') {
            return self.resolve(pattern).map(|site| vec![site]);
        }
        let mut found: Vec<SiteId> = Vec::new();
        for spelled in self.spellings(pattern) {
            let hits = self.ordered.iter().filter(|name| matches(&spelled, name));
            found.extend(hits.map(|name| self.exact[name]));
        }
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            let first = pattern.replace('*', "0");
            let hint = self.suggestion(&first).map(|n| match pattern.find('*') {
                // The suggestion as a pattern again, where it is one.
                Some(at) if n.get(..at) == Some(&first[..at]) && n[at..].starts_with('0') => {
                    format!("{}*{}", &n[..at], &n[at + 1..])
                }
                _ => n,
            });
            let hint = hint.map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
            return Err(err!(UnknownSite, "the pattern '{pattern}' matches no site{hint}"));
        }
        Ok(found)
    }

    /// A name that is not in the table as it stands: counted from the end, under `model.`, or short up to the layer.
    fn find(&self, name: &str) -> Option<SiteId> {
        // In a mixture of experts `gate` is often the router's module: not the neuron values that the short name means.
        let short = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).map(|(_, inside)| inside);
        if short.and_then(|inside| inside.strip_prefix("mlp.")).is_some_and(|v| IN_MLP.contains(&v)) {
            return self.exact.get(&self.counted_from_front(name)).copied();
        }
        self.spellings(name).iter().find_map(|n| self.exact.get(n).copied())
    }

    /// The ways to spell a name or pattern that the table may know.
    pub(super) fn spellings(&self, name: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut add = |name: String| {
            if !out.contains(&name) {
                out.push(name);
            }
        };
        // A wrapper's spelling puts one more `model.` in front.
        for name in [Some(name), name.strip_prefix("model.")].into_iter().flatten() {
            add(self.counted_from_front(name));
            let short = name.strip_prefix("layers.");
            let full = self.layers.as_deref().and_then(|l| name.strip_prefix(l));
            let (Some(rest), Some(layers)) = (short.or(full), &self.layers) else { continue };
            let (number, inside) = rest.split_once('.').map_or((rest, ""), |(n, r)| (n, r));
            let number = self.index(number);
            let dot = if inside.is_empty() { "" } else { "." };
            add(format!("layers.{number}{dot}{inside}"));
            // A name that parts share means a part only where the table says so.
            let shared = |own: &str| self.renamed.iter().filter(|(_, o)| o == own).count() > 1;
            if full.is_some() || !shared(inside.split('.').next().unwrap_or(inside)) {
                add(format!("{layers}{number}{dot}{inside}"));
            }
            for (role, own) in self.renamed.iter().filter(|(_, own)| !shared(own)) {
                if let Some(tail) = inside.strip_prefix(role).filter(|t| t.is_empty() || t.starts_with('.')) {
                    add(format!("{layers}{number}.{own}{tail}"));
                }
            }
        }
        out
    }

    /// `layers.-1.mlp` counted from the front.
    fn counted_from_front(&self, name: &str) -> String {
        for prefix in [Some("layers."), self.layers.as_deref()].into_iter().flatten() {
            if let Some(rest) = name.strip_prefix(prefix) {
                let (number, inside) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                return format!("{prefix}{}{inside}", self.index(number));
            }
        }
        name.to_owned()
    }

    fn index(&self, number: &str) -> String {
        match number.parse::<i64>() {
            Ok(i) if i < 0 => self.n_layers.checked_sub(i.unsigned_abs() as usize).map(|i| i.to_string()),
            _ => None,
        }
        .unwrap_or_else(|| number.to_owned())
    }

    fn unknown(&self, name: &str) -> crate::error::Error {
        match self.expert(name) {
            Some(Err(e)) => return e,
            Some(Ok(_)) => {
                return err!(
                    UnknownSite,
                    "'{name}' is part of a value: which part depends on the routing, so only a trace knows"
                );
            }
            None => {}
        }
        let bare = name.strip_prefix("model.model.").or(name.strip_prefix("model.")).unwrap_or(name);
        let rest = bare.strip_prefix("layers.").or_else(|| name.strip_prefix(self.layers.as_deref()?));
        if let Some(rest) = rest {
            let (number, inside) = rest.split_once('.').map_or((rest, ""), |(n, r)| (n, r));
            if let Ok(i) = number.parse::<i64>() {
                let n = self.n_layers as i64;
                if i >= n || i < -n {
                    let prefix = &name[..name.len() - rest.len()];
                    let last = format!("{prefix}{}{}", n - 1, &rest[number.len()..]);
                    let hint = if self.find(&last).is_some() { Some(last) } else { self.suggestion(&last) };
                    let hint = hint.map_or_else(String::new, |h| format!("; did you mean '{h}'?"));
                    return err!(UnknownSite, "no site '{name}': the model has {n} layers{hint}");
                }
                if let Some(message) = self.absent(inside) {
                    return err!(UnknownSite, "no site '{name}': {message}");
                }
            }
        }
        let hint = self.suggestion(name).map_or_else(String::new, |h| format!("; did you mean '{h}'?"));
        err!(UnknownSite, "no site '{name}'{hint}")
    }

    /// Why a short name that other models have is missing here.
    fn absent(&self, inside: &str) -> Option<String> {
        let (module, value) = inside.split_once('.').unwrap_or((inside, ""));
        Some(match (module, value) {
            ("resid_mid", "") => {
                "this model has no resid_mid: its description names no value between attention and MLP (they may run in \
                 parallel)"
                    .to_owned()
            }
            ("attn", "") | ("mlp", "") => format!("this layer has no {module}: its description gives no such role here"),
            ("attn", v) if IN_ATTENTION.contains(&v) => format!("this layer's attention has no value '{v}'"),
            ("mlp", v) if IN_EXPERTS.contains(&v) => format!("this layer's mlp is no mixture of experts, so it has no '{v}'"),
            ("mlp", v) if IN_MLP.contains(&v) => {
                let there: Vec<&str> = IN_MLP
                    .into_iter()
                    .filter(|o| (0..self.n_layers).any(|i| self.exact.contains_key(&format!("layers.{i}.mlp.{o}"))))
                    .collect();
                let has = if there.is_empty() { String::new() } else { format!(" (it has {})", there.join(", ")) };
                format!("this layer's mlp has no value '{v}'{has}")
            }
            _ => return None,
        })
    }

    fn suggestion(&self, name: &str) -> Option<String> {
        nearest(name, self.ordered.iter().map(String::as_str), 1).first().map(|n| (*n).to_owned())
    }
}

/// Whether `name` has the parts of `pattern`, `*` standing for any characters of one part.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (mut parts, mut names) = (pattern.split('.'), name.split('.'));
    loop {
        match (parts.next(), names.next()) {
            (None, None) => return true,
            (Some(p), Some(n)) if part_matches(p, n) => {}
            _ => return false,
        }
    }
}

fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == part };
    let Some(rest) = part.strip_prefix(head) else { return false };
    match tail.rsplit_once('*') {
        None => rest.ends_with(tail),
        // Several stars in one part: the middle must occur in order.
        Some((middle, end)) => {
            let Some(mut rest) = rest.strip_suffix(end) else { return false };
            for piece in middle.split('*') {
                match rest.find(piece) {
                    Some(at) => rest = &rest[at + piece.len()..],
                    None => return false,
                }
            }
            true
        }
    }
}

#[cfg(test)]
mod tests;
