//! Attribution patching (Nanda 2023, "Attribution Patching: Activation Patching At Industrial Scale"): what putting a
//! clean value in a corrupt run would do to a metric, to first order: the difference of the values times the metric's
//! gradient. Every component at once, from one batch of both prompts and one backward pass.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Pair, labels};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid, Metric};

/// What is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The residual stream before each layer.
    Residual,
    /// What each attention adds to it.
    Attention,
    /// What each MLP adds to it.
    Mlp,
    /// Each head's result, before the output projection.
    Head,
    /// Each neuron of each MLP.
    Neuron,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 5] =
        [Component::Residual, Component::Attention, Component::Mlp, Component::Head, Component::Neuron];

    /// The site of a layer that holds it.
    fn site(self, layer: usize) -> String {
        let value = match self {
            Component::Residual => "resid_pre",
            Component::Attention => "attn_add",
            Component::Mlp => "mlp_add",
            Component::Head => "attn.z",
            Component::Neuron => "mlp.act",
        };
        format!("layers.{layer}.{value}")
    }

    fn name(self) -> &'static str {
        match self {
            Component::Residual => "residual",
            Component::Attention => "attention",
            Component::Mlp => "mlp",
            Component::Head => "head",
            Component::Neuron => "neuron",
        }
    }
}

/// Options of [`attribution_patching`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributionPatchingOptions {
    /// What is attributed to; everything the model has when empty.
    pub components: Vec<Component>,
    /// How many neurons are listed.
    pub neurons: usize,
    /// What every run is under.
    #[serde(skip)]
    pub runs: TraceOptions,
}

impl Default for AttributionPatchingOptions {
    fn default() -> Self {
        Self { components: Vec::new(), neurons: 20, runs: TraceOptions::default() }
    }
}

/// A neuron and what patching it everywhere would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NeuronScore {
    /// Its layer.
    pub layer: usize,
    /// Its number.
    pub neuron: usize,
    /// Estimated change of the metric.
    pub score: f32,
}

/// Estimated changes of a metric when parts of a corrupt run get their clean values; means over the pairs of prompts.
#[derive(Clone, Debug, Serialize)]
pub struct AttributionPatching {
    /// What was measured.
    pub measured: String,
    /// The metric of each clean prompt.
    pub clean: Vec<f32>,
    /// The metric of each corrupt prompt.
    pub corrupt: Vec<f32>,
    /// Axes "layer", "position".
    pub residual: Option<Grid>,
    /// Axes "layer", "position".
    pub attention: Option<Grid>,
    /// Axes "layer", "position".
    pub mlp: Option<Grid>,
    /// Axes "layer", "head": summed over positions.
    pub heads: Option<Grid>,
    /// Axes "layer", "head", "position".
    pub head_positions: Option<Grid>,
    /// The neurons with the largest estimates, summed over positions, largest first.
    pub neurons: Vec<NeuronScore>,
    /// By component, a row a pair: `residual`, `attention`, `mlp` `[pair, layer, position]`, `head` `[pair, layer, head,
    /// position]`, `neuron` `[pair, layer, position, neuron]`; float32.
    #[serde(skip)]
    pub scores: Vec<(String, Array)>,
}

impl AttributionPatching {
    /// The scores of a component, a row a pair; see [`AttributionPatching::scores`].
    pub fn of(&self, component: Component) -> Option<&Array> {
        self.scores.iter().find(|(name, _)| name == component.name()).map(|(_, scores)| scores)
    }
}

/// Attributes the difference between clean and corrupt prompts to every component. A KL divergence is measured from the
/// clean prediction.
///
/// Errors: pairs of unequal lengths, a component that the model does not name, a metric that is not a number.
pub fn attribution_patching(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    metric: &Metric,
    options: &AttributionPatchingOptions,
) -> Result<AttributionPatching> {
    let pair = Pair::new(model, clean.into(), corrupt.into())?;
    let pairs = pair.len();
    let trace = model.trace_batch(pair.both(model)?, &options.runs)?;
    let mut prepared = metric.prepare(model, pairs)?;
    if prepared.needs_reference() {
        prepared = prepared.with_reference(&halves(&trace.last_logits()?, pairs)?.0);
    }
    let groups = groups(model, options)?;
    let names: Vec<&String> = groups.iter().flat_map(|g| g.sites.iter().map(|(_, name)| name)).collect();
    // Rows do not see each other, so leaving the clean ones out of the sum leaves nothing but the corrupt gradient.
    let corrupt_only: Vec<f32> = (0..2 * pairs).map(|row| if row < pairs { 0.0 } else { 1.0 }).collect();
    let corrupt_only = Array::from_slice(&corrupt_only, &[2 * pairs])?;
    let mut measured = None;
    let found = trace.gradients(&names, |fork| {
        let value = prepared.of_trace(fork)?;
        measured = Some(value.clone());
        tensor::mul(&value, &corrupt_only)
    })?;
    let mut products = found.values.iter().zip(&found.gradients).map(|(value, gradient)| {
        let (clean, corrupt) = halves(&tensor::cast(value, Dtype::Float32)?, pairs)?;
        let gradient = halves(&tensor::cast(gradient, Dtype::Float32)?, pairs)?.1;
        tensor::mul(&tensor::sub(&clean, &corrupt)?, &gradient)
    });
    let mut scores = Vec::new();
    for group in &groups {
        let mut layers = Vec::new();
        for product in products.by_ref().take(group.sites.len()) {
            let product: Array = product?;
            layers.push(if group.component == Component::Neuron { product } else { tensor::sum(&product, -1, false)? });
        }
        scores.push(stack(&layers, group)?);
    }
    let measured = measured.ok_or_else(|| crate::error::err!(Backend, "the metric was not called"))?;
    Array::eval_all(scores.iter().chain([&measured]))?;
    let numbers = prepared.numbers(&measured)?;
    let tokens = labels(model, &pair.clean)?;
    let mut result = AttributionPatching {
        measured: metric.to_string(),
        clean: numbers[..pairs].to_vec(),
        corrupt: numbers[pairs..].to_vec(),
        residual: None,
        attention: None,
        mlp: None,
        heads: None,
        head_positions: None,
        neurons: Vec::new(),
        scores: Vec::new(),
    };
    for (group, scores) in groups.iter().zip(scores) {
        result.put(group, scores, &tokens, options.neurons)?;
    }
    Ok(result)
}

/// The layers that have a component, with the names of its sites.
struct Group {
    component: Component,
    sites: Vec<(usize, String)>,
}

fn groups(model: &Model, options: &AttributionPatchingOptions) -> Result<Vec<Group>> {
    let all = options.components.is_empty();
    let wanted: &[Component] = if all { &Component::ALL } else { &options.components };
    let mut groups = Vec::new();
    for (i, component) in wanted.iter().enumerate() {
        if wanted[..i].contains(component) {
            continue;
        }
        let named = (0..model.num_layers()).map(|layer| (layer, component.site(layer)));
        let sites: Vec<_> = named.filter(|(_, name)| model.sites().resolve(name).is_ok()).collect();
        if !sites.is_empty() {
            groups.push(Group { component: *component, sites });
        } else if !all {
            // The table's own words say what the model has instead.
            model.sites().resolve(&component.site(0))?;
        }
    }
    if groups.is_empty() {
        bail!(Unsupported, "the model names none of residual stream, attention, MLP, heads, neurons");
    }
    Ok(groups)
}

/// The first `n` rows and the others.
fn halves(value: &Array, n: usize) -> Result<(Array, Array)> {
    let mut parts = tensor::split_at(value, &[n as i32], 0)?;
    let second = parts.pop();
    match (parts.pop(), second) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => bail!(Backend, "a value did not split in two"),
    }
}

/// A layer axis behind the rows.
fn stack(layers: &[Array], group: &Group) -> Result<Array> {
    if let Some(at) = layers.iter().position(|l| l.shape() != layers[0].shape()) {
        bail!(
            Unsupported,
            "'{}' has shape {:?}, '{}' {:?}: layers of unequal widths do not stand in one table; leave '{}' out of \
             components",
            group.sites[0].1,
            layers[0].shape(),
            group.sites[at].1,
            layers[at].shape(),
            group.component.name()
        );
    }
    tensor::stack(layers, 1)
}

impl AttributionPatching {
    fn put(&mut self, group: &Group, scores: Array, tokens: &[String], listed: usize) -> Result<()> {
        let layers = Axis::new("layer", group.sites.iter().map(|(layer, _)| layer.to_string()));
        let positions = Axis::new("position", tokens.iter().cloned());
        let mean = tensor::mean(&scores, 0, false)?;
        match group.component {
            Component::Residual => self.residual = Some(Grid::of(vec![layers, positions], &mean)?),
            Component::Attention => self.attention = Some(Grid::of(vec![layers, positions], &mean)?),
            Component::Mlp => self.mlp = Some(Grid::of(vec![layers, positions], &mean)?),
            Component::Head => {
                let heads = Axis::counted("head", mean.dim(1));
                let summed = tensor::sum(&mean, -1, false)?;
                self.heads = Some(Grid::of(vec![layers.clone(), heads.clone()], &summed)?);
                self.head_positions = Some(Grid::of(vec![layers, heads, positions], &mean)?);
            }
            Component::Neuron => {
                let neurons = Axis::counted("neuron", mean.dim(2));
                let summed = Grid::of(vec![layers, neurons], &tensor::sum(&mean, 1, false)?)?;
                let score = |(place, score): (Vec<usize>, f32)| NeuronScore {
                    layer: group.sites[place[0]].0,
                    neuron: place[1],
                    score,
                };
                self.neurons = summed.largest(listed).into_iter().map(score).collect();
            }
        }
        self.scores.push((group.component.name().to_owned(), scores));
        Ok(())
    }
}

impl fmt::Display for AttributionPatching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len().max(1) as f32;
        writeln!(f, "{}: clean {:.4}, corrupt {:.4}", self.measured, mean(&self.clean), mean(&self.corrupt))?;
        let tables = [
            ("residual stream", &self.residual),
            ("attention", &self.attention),
            ("MLP", &self.mlp),
            ("heads, all positions", &self.heads),
        ];
        for (title, grid) in tables.iter().filter_map(|(title, grid)| grid.as_ref().map(|g| (title, g))) {
            writeln!(f, "\n{title}\n{grid}")?;
        }
        if !self.neurons.is_empty() {
            writeln!(f, "neurons, all positions")?;
        }
        self.neurons.iter().try_for_each(|n| writeln!(f, "{:>9.4}  layer {}, neuron {}", n.score, n.layer, n.neuron))
    }
}
