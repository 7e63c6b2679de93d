//! From a checkpoint's tensors to those the description speaks of: the plan is data, computing it is somebody else's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::description::Description;
use super::elaborate;
use super::pattern::Pattern;
use super::rules::{Form, Rule, RuleLine};
use super::storage::{self, Blocks, Packed};
use crate::error::{Result, bail, err};

/// What is known of a tensor before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Shape.
    pub shape: Vec<usize>,
    /// Its dtype, as the checkpoint spells it.
    pub dtype: String,
}

/// How to make a tensor from those of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightExpr {
    /// A tensor of the checkpoint.
    Raw(String),
    /// All axes reversed.
    Transpose(Box<WeightExpr>),
    /// The last two axes swapped.
    SwapLast(Box<WeightExpr>),
    /// Axes of length 1 removed.
    Squeeze(Box<WeightExpr>),
    /// A number added.
    Add(f64, Box<WeightExpr>),
    /// Stacked along a new first axis.
    Stack(Vec<WeightExpr>),
    /// `start:stop:step` of an axis counted from the front.
    Slice {
        /// What is sliced.
        of: Box<WeightExpr>,
        /// The axis.
        axis: usize,
        /// First element.
        start: usize,
        /// One past the last element.
        stop: usize,
        /// Step.
        step: usize,
    },
    /// Given another shape.
    Reshape(Box<WeightExpr>, Vec<usize>),
    /// Bytes of the last axis read as little-endian 32-bit words, the last two axes joined.
    View32(Box<WeightExpr>),
    /// Rows divided by their length.
    UnitRows(Box<WeightExpr>),
    /// Multiplied by a number.
    Times(f64, Box<WeightExpr>),
    /// 32-bit integers read as unsigned.
    Words(Box<WeightExpr>),
    /// Unpacked.
    Dequantise(Box<Packed>),
    /// 8-bit floats as numbers.
    Blocks(Box<Blocks>),
}

/// Most tensors a plan may hold.
const MAX_TENSORS: usize = 1 << 20;

impl WeightExpr {
    /// The shape it will have.
    pub fn shape(&self, tensors: &BTreeMap<String, TensorInfo>) -> Result<Vec<usize>> {
        Ok(match self {
            WeightExpr::Raw(name) => match tensors.get(name) {
                Some(t) => t.shape.clone(),
                None => bail!(NotFound, "the checkpoint has no tensor '{name}'"),
            },
            WeightExpr::Transpose(of) => of.shape(tensors)?.into_iter().rev().collect(),
            WeightExpr::SwapLast(of) => {
                let mut s = of.shape(tensors)?;
                match s.len() {
                    0 | 1 => bail!(Shape, "{} of shape {s:?} has no two axes to swap", of.name()),
                    n => s.swap(n - 1, n - 2),
                }
                s
            }
            WeightExpr::Squeeze(of) => of.shape(tensors)?.into_iter().filter(|d| *d != 1).collect(),
            WeightExpr::Add(_, of) | WeightExpr::UnitRows(of) | WeightExpr::Times(_, of) | WeightExpr::Words(of) => {
                of.shape(tensors)?
            }
            WeightExpr::Blocks(of) => of.weight.shape(tensors)?,
            WeightExpr::Dequantise(of) => {
                let mut s = of.weight.shape(tensors)?;
                if let Some(words) = s.last_mut() {
                    *words = *words * 32 / of.bits;
                }
                s
            }
            WeightExpr::Stack(list) => {
                let first = list.first().ok_or_else(|| err!(Shape, "a stack of no tensors"))?.shape(tensors)?;
                for other in list {
                    let s = other.shape(tensors)?;
                    if s != first {
                        bail!(
                            Shape,
                            "{} has shape {s:?}, its siblings {first:?}: they cannot be stacked",
                            other.name()
                        );
                    }
                }
                std::iter::once(list.len()).chain(first).collect()
            }
            WeightExpr::Slice { of, axis, start, stop, step } => {
                let mut s = of.shape(tensors)?;
                s[*axis] = (stop - start).div_ceil(*step);
                s
            }
            WeightExpr::Reshape(_, shape) => shape.clone(),
            WeightExpr::View32(of) => {
                let mut s = of.shape(tensors)?;
                match (s.pop(), s.pop()) {
                    (Some(bytes), Some(rows)) if bytes % 4 == 0 => s.push(rows * (bytes / 4)),
                    _ => bail!(Shape, "{} cannot be read as 32-bit words", of.name()),
                }
                s
            }
        })
    }

    /// The name of the first tensor in it.
    pub fn name(&self) -> &str {
        self.sources().first().copied().unwrap_or_default()
    }

    /// Names of the checkpoint's tensors in it.
    pub fn sources(&self) -> Vec<&str> {
        match self {
            WeightExpr::Raw(name) => vec![name],
            WeightExpr::Stack(list) => list.iter().flat_map(WeightExpr::sources).collect(),
            WeightExpr::Slice { of, .. }
            | WeightExpr::Transpose(of)
            | WeightExpr::SwapLast(of)
            | WeightExpr::Squeeze(of)
            | WeightExpr::Add(_, of)
            | WeightExpr::Reshape(of, _)
            | WeightExpr::View32(of)
            | WeightExpr::UnitRows(of)
            | WeightExpr::Times(_, of)
            | WeightExpr::Words(of) => of.sources(),
            WeightExpr::Dequantise(of) => {
                let parts = [Some(&of.weight), Some(&of.scales), of.biases.as_ref()];
                parts.into_iter().flatten().flat_map(WeightExpr::sources).collect()
            }
            WeightExpr::Blocks(of) => {
                [Some(&of.weight), of.scale.as_ref()].into_iter().flatten().flat_map(WeightExpr::sources).collect()
            }
        }
    }
}

type Plan = BTreeMap<String, WeightExpr>;

/// Applies a description's weight rules to the names of a checkpoint.
pub fn plan_weights(
    description: &Description,
    config: &Value,
    names: &BTreeMap<String, TensorInfo>,
) -> Result<BTreeMap<String, WeightExpr>> {
    let mut plan = storage::plain(names, config)?;
    let (inner, config) = description.unwrapped(config)?;
    let raw = is_raw(names);
    plan = follow(&description.rules, plan, names, &config, raw)?;
    let (Some(inner), Some((_, path))) = (inner, &description.wraps) else { return Ok(plan) };
    // The description inside knows nothing of the path that the wrapper puts in front.
    let prefix = format!("{path}.");
    let (mine, mut others) = plan.into_iter().partition::<Plan, _>(|(name, _)| name.starts_with(&prefix));
    let mine = mine.into_iter().map(|(name, w)| (name[prefix.len()..].to_owned(), w)).collect();
    let mine = follow(&inner.rules, mine, names, &config, raw)?;
    others.extend(mine.into_iter().map(|(name, w)| (format!("{prefix}{name}"), w)));
    Ok(others)
}

/// Applies rules one after another.
fn follow(
    rules: &[RuleLine],
    mut plan: Plan,
    names: &BTreeMap<String, TensorInfo>,
    config: &Value,
    raw: bool,
) -> Result<Plan> {
    for rule in rules {
        if let Some(condition) = &rule.condition
            && !elaborate::condition(&rule.source, config, condition, raw)?
        {
            continue;
        }
        plan = Planner { names, config, rule }.apply(plan)?;
        if plan.len() > MAX_TENSORS {
            bail!(Description, "{}: more than {MAX_TENSORS} tensors", rule.source.at(rule.pos));
        }
    }
    Ok(plan)
}

/// config.json with one key more, `raw`: whether the checkpoint is in torch's layout. Some converters fold constants of
/// config.json into the weights; a description may ask.
pub fn with_layout(config: &Value, names: &BTreeMap<String, TensorInfo>) -> Value {
    let mut config = config.clone();
    if let Value::Object(map) = &mut config {
        map.insert("raw".to_owned(), is_raw(names).into());
    }
    config
}

/// Whether the checkpoint is in torch's layout: a convolution's taps last, experts one by one, or (Step) outside the MLP.
fn is_raw(names: &BTreeMap<String, TensorInfo>) -> bool {
    let conv = |(n, t): (&String, &TensorInfo)| n.contains("conv1d.weight") && t.shape.last() != Some(&1);
    names.iter().any(conv) || names.keys().any(|n| n.contains(".experts.0.") || n.contains(".moe.gate."))
}

struct Planner<'a> {
    names: &'a BTreeMap<String, TensorInfo>,
    config: &'a Value,
    rule: &'a RuleLine,
}

impl Planner<'_> {
    fn apply(&self, plan: Plan) -> Result<Plan> {
        match &self.rule.rule {
            Rule::Clear => Ok(plan),
            Rule::Drop(p) => self.each(plan, p, |_, _| Ok(None)),
            Rule::DropFrom(patterns, first) => {
                let first = elaborate::length(&self.rule.source, self.config, first)?;
                let mut out = Plan::new();
                for (name, w) in plan {
                    let mut gone = false;
                    for p in patterns {
                        gone = gone || p.number(&name)?.is_some_and(|n| n >= first);
                    }
                    if !gone {
                        out.insert(name, w);
                    }
                }
                Ok(out)
            }
            Rule::Unflatten(from, to, length, form) => {
                let length = elaborate::length(&self.rule.source, self.config, length)?;
                self.replace(plan, from, |s, name, w| {
                    let shape = s.shape(&w)?;
                    let [rows, rest @ ..] = &shape[..] else {
                        bail!(Shape, "{}: '{name}' is a single number", s.rule.source.at(s.rule.pos));
                    };
                    if length == 0 || rows % length != 0 {
                        let message = format!("'{name}' of shape {shape:?} has no {length} equal parts");
                        return Err(s.rule.source.error(s.rule.pos, message));
                    }
                    let new = [length, rows / length].into_iter().chain(rest.iter().copied()).collect();
                    let name = from.expand(name, to)?.unwrap_or_default();
                    Ok(vec![(name, s.formed(WeightExpr::Reshape(Box::new(w), new), *form))])
                })
            }
            Rule::Transpose(p) => self.each(plan, p, |_, w| Ok(Some(WeightExpr::Transpose(Box::new(w))))),
            Rule::Squeeze(p) => self.each(plan, p, |_, w| Ok(Some(WeightExpr::Squeeze(Box::new(w))))),
            // Who packed a matrix did this first.
            Rule::UnitRows(p) => self.each(plan, p, |s, w| {
                let packed = s.names.get(w.name()).is_some_and(|t| t.dtype == "U32");
                Ok(Some(if packed { w } else { WeightExpr::UnitRows(Box::new(w)) }))
            }),
            Rule::Add(v, p) => self.each(plan, p, |s, w| {
                Ok(Some(if s.shape(&w)?.len() == 1 { WeightExpr::Add(*v, Box::new(w)) } else { w }))
            }),
            Rule::ConvLayout(p) => self.each(plan, p, |s, w| {
                let shape = s.shape(&w)?;
                let torch = shape.len() == 3 && shape.last() != Some(&1);
                Ok(Some(if torch { WeightExpr::SwapLast(Box::new(w)) } else { w }))
            }),
            Rule::Rename(from, to) => {
                let mut out = Plan::new();
                for (name, w) in plan {
                    self.insert(&mut out, from.replace(&name, to)?, w)?;
                }
                Ok(out)
            }
            Rule::Move(from, to, form) => self.replace(plan, from, |s, name, w| {
                let name = from.expand(name, to)?.unwrap_or_default();
                Ok(vec![(name, s.formed(w, *form))])
            }),
            Rule::Halve { from, to, axis, form } => self.replace(plan, from, |s, name, w| {
                let w = s.formed(w, *form);
                let [a, b] = s.halves(w, *axis, form.interleaved)?;
                let of = |t: &String| Ok(from.expand(name, t)?.unwrap_or_default());
                Ok(vec![(of(&to[0])?, a), (of(&to[1])?, b)])
            }),
            Rule::SplitExperts(from, to) => self.replace(plan, from, |s, name, w| {
                let [a, b] = s.halves(w, 1, false)?;
                let base = parent(parent(name));
                Ok(vec![(format!("{base}.{}", to[0]), a), (format!("{base}.{}", to[1]), b)])
            }),
            Rule::MlaSplit(from, to) => self.mla_split(plan, from, to),
            Rule::Stack(from, to) => self.stack(plan, from, to),
        }
    }

    fn shape(&self, w: &WeightExpr) -> Result<Vec<usize>> {
        w.shape(self.names).map_err(|e| e.context(self.rule.source.at(self.rule.pos)))
    }

    fn insert(&self, plan: &mut Plan, name: String, w: WeightExpr) -> Result<()> {
        match plan.insert(name.clone(), w) {
            None => Ok(()),
            Some(other) => Err(self.rule.source.error(
                self.rule.pos,
                format!("two tensors become '{name}' (one of them is '{}'): make the pattern narrower", other.name()),
            )),
        }
    }

    fn each(
        &self,
        plan: Plan,
        patterns: &[Pattern],
        f: impl Fn(&Self, WeightExpr) -> Result<Option<WeightExpr>>,
    ) -> Result<Plan> {
        let mut out = Plan::new();
        for (name, w) in plan {
            let mut hit = false;
            for p in patterns {
                hit = hit || p.matches(&name)?;
            }
            if let Some(w) = if hit { f(self, w)? } else { Some(w) } {
                out.insert(name, w);
            }
        }
        Ok(out)
    }

    fn replace(
        &self,
        plan: Plan,
        pattern: &Pattern,
        f: impl Fn(&Self, &str, WeightExpr) -> Result<Vec<(String, WeightExpr)>>,
    ) -> Result<Plan> {
        let mut out = Plan::new();
        for (name, w) in plan {
            if pattern.matches(&name)? {
                for (name, w) in f(self, &name, w)? {
                    self.insert(&mut out, name, w)?;
                }
            } else {
                self.insert(&mut out, name, w)?;
            }
        }
        Ok(out)
    }

    fn formed(&self, w: WeightExpr, form: Form) -> WeightExpr {
        let w = if form.view32 { WeightExpr::View32(Box::new(w)) } else { w };
        if form.transposed { WeightExpr::SwapLast(Box::new(w)) } else { w }
    }

    fn halves(&self, w: WeightExpr, axis: i64, interleaved: bool) -> Result<[WeightExpr; 2]> {
        let shape = self.shape(&w)?;
        let n = shape.len() as i64;
        let at = if axis < 0 { axis + n } else { axis };
        let size = usize::try_from(at).ok().and_then(|a| shape.get(a)).copied();
        let Some(size) = size.filter(|s| s % 2 == 0) else {
            let message = format!("'{}' of shape {shape:?} has no two halves along axis {axis}", w.name());
            return Err(self.rule.source.error(self.rule.pos, message));
        };
        let slice =
            |start, stop, step| WeightExpr::Slice { of: Box::new(w.clone()), axis: at as usize, start, stop, step };
        Ok(if interleaved {
            [slice(0, size, 2), slice(1, size, 2)]
        } else {
            [slice(0, size / 2, 1), slice(size / 2, size, 1)]
        })
    }

    fn stack(&self, plan: Plan, from: &Pattern, to: &str) -> Result<Plan> {
        let mut out = Plan::new();
        let mut groups: BTreeMap<String, BTreeMap<usize, WeightExpr>> = BTreeMap::new();
        for (name, w) in plan {
            match (from.expand(&name, to)?, from.number(&name)?) {
                (Some(target), Some(e)) => {
                    groups.entry(target).or_default().insert(e, w);
                }
                _ => self.insert(&mut out, name, w)?,
            }
        }
        for (target, group) in groups {
            let n = group.len();
            if group.keys().copied().ne(0..n) {
                let gap = (0..n).find(|e| !group.contains_key(e)).unwrap_or(n);
                let message = format!("'{target}' is stacked from {n} experts, but number {gap} is missing");
                return Err(self.rule.source.error(self.rule.pos, message));
            }
            self.insert(&mut out, target, WeightExpr::Stack(group.into_values().collect()))?;
        }
        Ok(out)
    }

    fn mla_split(&self, plan: Plan, from: &Pattern, to: &[String; 2]) -> Result<Plan> {
        let number = |key: &str| match self.config.get(key).and_then(Value::as_u64) {
            Some(v) if v > 0 && v < 1 << 20 => Ok(v as usize),
            _ => Err(err!(Config, "{}: config.json needs {key}", self.rule.source.at(self.rule.pos))),
        };
        let mut packed: BTreeMap<String, [Option<WeightExpr>; 2]> = BTreeMap::new();
        let mut out = Plan::new();
        let mut matrices = Vec::new();
        for (name, w) in plan {
            match name.rsplit_once('.') {
                Some((module, part @ ("weight" | "scales" | "biases"))) if from.matches(module)? => match part {
                    "weight" => matrices.push((module.to_owned(), w)),
                    "scales" => packed.entry(module.to_owned()).or_default()[0] = Some(w),
                    _ => packed.entry(module.to_owned()).or_default()[1] = Some(w),
                },
                _ => self.insert(&mut out, name, w)?,
            }
        }
        for (module, mut w) in matrices {
            let (heads, nope, v) = (number("num_attention_heads")?, number("qk_nope_head_dim")?, number("v_head_dim")?);
            if let Some([Some(scales), biases]) = packed.remove(&module) {
                // One factor is turned round, so that its groups would run across: both go on unpacked.
                let rank = number("kv_lora_rank")?;
                w = WeightExpr::Dequantise(Box::new(Packed::of_matrix([w, scales], biases, rank, self.names)?));
            }
            let shape = self.shape(&w)?;
            let [rows, columns] = shape[..] else {
                bail!(
                    Shape,
                    "{}: '{module}.weight' has shape {shape:?}, a matrix is needed",
                    self.rule.source.at(self.rule.pos)
                );
            };
            if rows != heads * (nope + v) {
                bail!(
                    Shape,
                    "{}: '{module}.weight' has {rows} rows, but config.json says {heads} heads of {nope} + {v}",
                    self.rule.source.at(self.rule.pos)
                );
            }
            let all = Box::new(WeightExpr::Reshape(Box::new(w), vec![heads, nope + v, columns]));
            let slice = |start, stop| WeightExpr::Slice { of: all.clone(), axis: 1, start, stop, step: 1 };
            let base = parent(&module).to_owned();
            self.insert(&mut out, format!("{base}.{}.weight", to[0]), WeightExpr::SwapLast(Box::new(slice(0, nope))))?;
            self.insert(&mut out, format!("{base}.{}.weight", to[1]), slice(nope, nope + v))?;
        }
        Ok(out)
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(p, _)| p)
}
