//! Direct logit attribution: which part of the model puts how much into a logit, straight through the final norm and the
//! head (Elhage et al., 2021, "A mathematical framework for transformer circuits"; Wang et al., 2022, "Interpretability in
//! the wild").

mod head;
mod result;
mod split;
mod unfold;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use self::head::{Target, before_cap, residual};
pub use self::result::{Attributed, LogitAttribution, Part, Split, TopNeuron};
use self::split::{Unit, Units, slot_of};
use self::unfold::{Scene, Unfolded};
use super::{position, readout};
use crate::core::arch::tape::{Producer, Slot};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array};
use crate::core::trace::{Place, Trace, at_places};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid, Progress, Tokens, tell};

/// How the final norm, which is no linear function, is taken for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Its scale is that of this run, a constant. The parts then add up to the logit.
    #[default]
    Frozen,
    /// By the gradient at the final residual stream: what a small change of each part does. The parts add up to the logit
    /// less a remainder, which for a norm without a bias is nearly all of it.
    Linearised,
}

/// Options of [`direct_logit_attribution`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributionOptions {
    /// The token whose logit it is, for all prompts or each its own; the likeliest by default.
    pub answer: Option<Tokens>,
    /// A token whose logit is subtracted.
    pub wrong: Option<Tokens>,
    /// The position in every prompt, negative from its own end.
    pub position: i64,
    /// How the final norm is taken.
    pub norm: Norm,
    /// Whether attention is told apart by heads.
    pub heads: bool,
    /// Whether MLPs are told apart by neurons, and how many of the largest are named for each prompt; 0: not.
    pub neurons: usize,
}

impl Default for AttributionOptions {
    fn default() -> Self {
        let (answer, wrong, norm) = (None, None, Norm::Frozen);
        Self { answer, wrong, position: -1, norm, heads: false, neurons: 0 }
    }
}

/// Takes the logit of a token (or the difference of two) apart into what the embedding, every layer's attention and MLP,
/// their heads and neurons, and the biases put into it directly.
///
/// The numbers are those of the logit before a soft-cap. Norms behind attention and MLP count with the scale that they had
/// in this run, factors on branches as they are. What is left over (rounding; what interventions put into the residual
/// stream itself; all that is not linear with [`Norm::Linearised`]) is told as the remainder.
pub fn direct_logit_attribution(
    model: &Model,
    prompts: impl Into<Prompts>,
    options: &AttributionOptions,
) -> Result<LogitAttribution> {
    attribution_of(&model.trace(prompts)?, options, &mut None)
}

/// [`direct_logit_attribution`] of a trace, whose interventions it sees.
pub fn attribution_of(
    trace: &Trace,
    options: &AttributionOptions,
    progress: &mut Progress<'_>,
) -> Result<LogitAttribution> {
    let model = trace.model();
    let batch = trace.batch()?;
    if !batch.is_tokens() {
        bail!(Unsupported, "direct logit attribution reads tokens; this model takes arrays");
    }
    let at = |(row, n): (usize, &usize)| Ok((row, position(options.position, *n, row)?));
    let places = batch.lengths().iter().enumerate().map(at).collect::<Result<Vec<Place>>>()?;
    let scene = Scene { model: &model, trace, places: &places };
    let capped = before_cap(model.program());
    let site = residual(&model)?;
    let stream = model.program().hooks[site].1.slot;
    // The head for these positions only, before and after a cap.
    let states = at_places(&trace.value_of(stream)?, &places)?;
    let logits = logits_at(&scene, capped.slot, &states)?;
    let target = target(&model, &logits, options, places.len())?;
    let logit = target.of(&logits)?;
    let (covector, constants) = match options.norm {
        Norm::Frozen => target.frozen(&scene, capped.slot)?,
        Norm::Linearised => (target.linearised(&model, &states, capped.slot)?, Vec::new()),
    };
    let known = components(&model);
    let source = |slot: Slot| model.program().source(slot);
    let Unfolded { parts, constants: more } = scene.unfold(stream, &covector, &|s| known.contains_key(&s))?;
    if !parts.iter().any(|(slot, _)| matches!(known.get(&source(*slot)), Some(Kind::Of(..)))) {
        bail!(Unsupported, "the residual stream of this model is not a sum of what its layers add");
    }
    let mut book = Book::new(&model, places.len());
    for (name, value) in constants.into_iter().chain(more) {
        book.other(&format!("{name}.bias"), value)?;
    }
    let total = parts.len() as u64;
    for (done, (slot, covector)) in parts.iter().enumerate() {
        let value = scene.contribution(*slot, covector)?;
        match known.get(&source(*slot)) {
            Some(Kind::Named(name)) => book.other(name, value)?,
            None => book.other(&stranger(&model, *slot), value)?,
            Some(Kind::Of(layer, part)) => {
                let unit = match *part {
                    "attn" if options.heads => Some(Unit::Head),
                    "mlp" if options.neurons > 0 => Some(Unit::Neuron),
                    _ => None,
                };
                let units = unit.map(|u| scene.split(&u, *layer, *slot, covector)).transpose()?.flatten();
                book.component(*layer, part, value, units)?;
            }
        }
        tell(progress, done as u64 + 1, total)?;
    }
    book.close(&model, trace, options, &target, &places, &logit, capped.cap)
}

/// The logits that a slot behind the head holds, `[row, vocabulary]`, of final states `[row, feature]`; interventions behind
/// the last layer are seen.
fn logits_at(scene: &Scene<'_>, slot: Slot, states: &Array) -> Result<Array> {
    let model = scene.model;
    if let Ok(head) = crate::core::trace::Head::new(model, 1, states.dim(0))
        && scene.trace.is_plain_after_layers()?
    {
        let logits = head.trace(&tensor::expand_dims(states, 0)?)?.value_of(slot)?;
        return tensor::squeeze(&logits, 0);
    }
    at_places(&scene.trace.value_of(slot)?, scene.places)
}

fn target(model: &Model, logits: &Array, options: &AttributionOptions, rows: usize) -> Result<Target> {
    let answer = match &options.answer {
        Some(answer) => answer.ids(model, rows)?,
        None => tensor::argmax(logits, -1, false)?.to_vec::<u32>()?,
    };
    Ok(Target { answer, wrong: options.wrong.as_ref().map(|t| t.ids(model, rows)).transpose()? })
}

/// What a slot of the residual stream's sum is.
enum Kind {
    /// What a layer's attention, mixer or MLP adds.
    Of(usize, &'static str),
    /// Something before the layers.
    Named(&'static str),
}

/// The parts of a layer that add to the stream: their names here, and their sites.
const PARTS: [(&str, &str); 3] = [("attn", "attn_add"), ("mixer", "mixer_add"), ("mlp", "mlp_add")];

/// The values that the residual stream is known to be a sum of, by the slot they were made in.
fn components(model: &Model) -> HashMap<Slot, Kind> {
    let mut known = HashMap::new();
    for name in ["embed", "pos_embed"] {
        if let Some(slot) = slot_of(model, name) {
            known.insert(model.program().source(slot), Kind::Named(name));
        }
    }
    for layer in 0..model.num_layers() {
        for (part, site) in PARTS {
            if let Some(slot) = slot_of(model, &format!("layers.{layer}.{site}")) {
                known.entry(model.program().source(slot)).or_insert(Kind::Of(layer, part));
            }
        }
    }
    known
}

/// Contributions as they are found, not computed yet.
struct Book {
    layers: usize,
    rows: usize,
    components: HashMap<(usize, &'static str), Array>,
    units: Vec<(&'static str, Units)>,
    others: Vec<(String, Array)>,
}

impl Book {
    fn new(model: &Model, rows: usize) -> Self {
        let (components, units, others) = (HashMap::new(), Vec::new(), Vec::new());
        Self { layers: model.num_layers(), rows, components, units, others }
    }

    /// Adds to what is there under the name.
    fn other(&mut self, name: &str, value: Array) -> Result<()> {
        match self.others.iter_mut().find(|(n, _)| n == name) {
            Some((_, before)) => *before = tensor::add(before, &value)?,
            None => self.others.push((name.to_owned(), value)),
        }
        Ok(())
    }

    fn component(&mut self, layer: usize, part: &'static str, value: Array, units: Option<Units>) -> Result<()> {
        let sum = match self.components.get(&(layer, part)) {
            Some(before) => tensor::add(before, &value)?,
            None => value,
        };
        self.components.insert((layer, part), sum);
        self.units.extend(units.map(|u| (part, u)));
        Ok(())
    }

    /// Computes everything.
    #[allow(clippy::too_many_arguments)]
    fn close(
        self,
        model: &Model,
        trace: &Trace,
        options: &AttributionOptions,
        target: &Target,
        places: &[Place],
        logit: &Array,
        softcap: Option<f64>,
    ) -> Result<LogitAttribution> {
        let all = self.components.values().chain(self.others.iter().map(|(_, a)| a));
        Array::eval_all(all.chain(self.units.iter().map(|(_, u)| &u.values)).chain([logit]))?;
        let rows = self.rows;
        // A constant is one number for all rows.
        let numbers = |a: &Array| Ok::<_, crate::Error>(spread(a.to_vec::<f32>()?, rows));
        let logit = numbers(logit)?;
        if let Some(row) = logit.iter().position(|l| !l.is_finite()) {
            bail!(InvalidArgument, "the logit of prompt {row} is not a number: check the prompt and the interventions");
        }
        let named: Vec<&'static str> =
            PARTS.iter().map(|(part, _)| *part).filter(|part| self.components.keys().any(|(_, p)| p == part)).collect();
        let mut values = vec![0.0; rows * self.layers * named.len()];
        for ((layer, part), array) in &self.components {
            let column = named.iter().position(|n| n == part).unwrap_or(0);
            for (row, value) in numbers(array)?.into_iter().enumerate() {
                values[(row * self.layers + layer) * named.len() + column] = value;
            }
        }
        let axes = vec![
            Axis::counted("prompt", rows),
            Axis::counted("layer", self.layers),
            Axis::new("component", named.iter().copied()),
        ];
        let components = Grid::new(axes, values)?;
        let others = self.others.iter().map(|(name, a)| Ok(Part { name: name.clone(), values: numbers(a)? }));
        let others = others.collect::<Result<Vec<_>>>()?;
        let (mut heads, mut neurons) = (Vec::new(), Vec::new());
        for (part, units) in &self.units {
            let whole = numbers(&self.components[&(units.layer, *part)])?;
            let split = Split::new(units.layer, *part == "attn", whole, &units.values)?;
            if *part == "attn" { heads.push(split) } else { neurons.push(split) }
        }
        if options.heads && heads.is_empty() {
            bail!(Unsupported, "no layer's attention is one projection of its heads: leave heads out");
        }
        if options.neurons > 0 && neurons.is_empty() {
            bail!(Unsupported, "no layer's MLP is one projection of its neurons: leave neurons out");
        }
        heads.sort_by_key(|s| s.layer);
        neurons.sort_by_key(|s| s.layer);
        let rows = result::rows(model, trace.batch()?.as_ref(), places, target, &logit)?;
        Ok(LogitAttribution::new(rows, options, softcap, components, others, heads, neurons))
    }
}

/// What to call a value of the stream that is none of the known ones: its site, or the module that makes it.
fn stranger(model: &Model, slot: Slot) -> String {
    let named = model.program().hooks.iter().any(|(_, hook)| hook.slot == slot);
    match model.program().origin(slot) {
        Producer::Instr(i) if !named => format!("a value of {}", model.program().instrs[i as usize].path),
        _ => model.inner().slot_name(slot),
    }
}

/// One number a row, where there may be one for all of them.
fn spread(numbers: Vec<f32>, rows: usize) -> Vec<f32> {
    if numbers.len() == rows { numbers } else { numbers.into_iter().cycle().take(rows).collect() }
}

/// The text of a token.
fn text(model: &Model, id: u32) -> Result<String> {
    readout::text(model, id)
}
