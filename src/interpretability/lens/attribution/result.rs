//! A logit told apart.

use std::fmt;

use serde::Serialize;

use super::head::Target;
use super::{AttributionOptions, Norm, text};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::core::trace::{Batch, Place};
use crate::error::Result;
use crate::utils::{Axis, Grid};

/// Whose logit it is, for one prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attributed {
    /// The position.
    pub position: usize,
    /// The token there.
    pub after: String,
    /// The token whose logit it is.
    pub answer: String,
    /// The token whose logit is subtracted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// The number that the parts add up to: the logit or the difference, before a soft-cap.
    pub logit: f32,
    /// The number less all parts.
    pub remainder: f32,
}

/// Something that is no layer's, a number a prompt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// "embed", "pos_embed", a bias by the name of its module, or the name of another value in the stream.
    pub name: String,
    /// What it contributes to each prompt's number.
    pub values: Vec<f32>,
}

/// One layer's attention or MLP, unit by unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Split {
    /// The layer.
    pub layer: usize,
    /// Axes: prompt, head (or neuron).
    pub values: Grid,
    /// What the component contributes besides its units: biases, experts beside them, what interventions changed behind them.
    pub rest: Vec<f32>,
}

impl Split {
    pub(super) fn new(layer: usize, heads: bool, whole: Vec<f32>, values: &Array) -> Result<Self> {
        let name = if heads { "head" } else { "neuron" };
        let axes = vec![Axis::counted("prompt", values.dim(0)), Axis::counted(name, values.dim(1))];
        let values = Grid::of(axes, values)?;
        let n = values.axes[1].len();
        let sums = values.values.chunks(n).map(|row| row.iter().map(|v| f64::from(*v)).sum::<f64>() as f32);
        Ok(Self { layer, rest: whole.iter().zip(sums).map(|(whole, sum)| whole - sum).collect(), values })
    }
}

/// A neuron that contributes much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopNeuron {
    /// The prompt.
    pub prompt: usize,
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub neuron: usize,
    /// What it contributes.
    pub value: f32,
}

/// A logit, or the difference of two, as the sum of what every part of the model put into it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitAttribution {
    /// One a prompt.
    pub prompts: Vec<Attributed>,
    /// How the final norm was taken.
    pub norm: Norm,
    /// The soft-cap of the logits, which the numbers are before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f64>,
    /// Axes: prompt, layer, component (attn, mixer, mlp: those that the model has; 0 where a layer has none).
    pub components: Grid,
    /// Embeddings, biases, and what else is in the stream.
    pub others: Vec<Part>,
    /// Attention by heads, of every layer where that can be told; empty unless asked for.
    pub heads: Vec<Split>,
    /// MLPs by neurons, of every layer where that can be told; empty unless asked for.
    #[serde(skip)]
    pub neurons: Vec<Split>,
    /// The neurons that contribute most, by size, for each prompt.
    pub top_neurons: Vec<TopNeuron>,
}

/// The rows without their remainders.
pub(super) fn rows(
    model: &Model,
    batch: &Batch,
    places: &[Place],
    target: &Target,
    logit: &[f32],
) -> Result<Vec<Attributed>> {
    let row = |(i, (row, position)): (usize, &Place)| {
        Ok(Attributed {
            position: *position,
            after: text(model, batch.rows()[*row][*position])?,
            answer: text(model, target.answer[i])?,
            wrong: target.wrong.as_ref().map(|w| text(model, w[i])).transpose()?,
            logit: logit[i],
            remainder: 0.0,
        })
    };
    places.iter().enumerate().map(row).collect()
}

impl LogitAttribution {
    pub(super) fn new(
        mut prompts: Vec<Attributed>,
        options: &AttributionOptions,
        softcap: Option<f64>,
        components: Grid,
        others: Vec<Part>,
        heads: Vec<Split>,
        neurons: Vec<Split>,
    ) -> Self {
        let per_prompt = components.values.len() / prompts.len();
        for (i, row) in prompts.iter_mut().enumerate() {
            // In double precision: hundreds of parts that cancel.
            let own = components.values[i * per_prompt..(i + 1) * per_prompt].iter().map(|v| f64::from(*v));
            let sum: f64 = own.chain(others.iter().map(|p| f64::from(p.values[i]))).sum();
            row.remainder = (f64::from(row.logit) - sum) as f32;
        }
        let top_neurons = top(&neurons, prompts.len(), options.neurons);
        Self { prompts, norm: options.norm, softcap, components, others, heads, neurons, top_neurons }
    }

    /// What each layer contributes in all. Axes: prompt, layer.
    pub fn by_layer(&self) -> Result<Grid> {
        let n = self.components.axes[2].len();
        let values = self.components.values.chunks(n).map(|parts| parts.iter().sum()).collect();
        Grid::new(self.components.axes[..2].to_vec(), values)
    }

    /// One prompt's components. Axes: layer, component.
    pub fn of_prompt(&self, prompt: usize) -> Result<Grid> {
        let n = self.components.axes[1].len() * self.components.axes[2].len();
        let values = self.components.values.iter().skip(prompt * n).take(n).copied().collect();
        Grid::new(self.components.axes[1..].to_vec(), values)
    }

    /// One prompt's heads. Axes: layer, head; NaN where a layer has fewer than the others.
    pub fn heads_of_prompt(&self, prompt: usize) -> Result<Grid> {
        let most = self.heads.iter().map(|s| s.values.axes[1].len()).max().unwrap_or(0);
        let mut values = Vec::new();
        for split in &self.heads {
            let n = split.values.axes[1].len();
            let own = split.values.values.iter().skip(prompt * n).take(n).copied();
            values.extend(own.chain(std::iter::repeat(f32::NAN)).take(most));
        }
        let layers = Axis::new("layer", self.heads.iter().map(|s| s.layer.to_string()));
        Grid::new(vec![layers, Axis::counted("head", most)], values)
    }

    /// Its numbers as arrays, float32: `logit` and `remainder` `[prompt]`, `components` `[prompt, layer, component]`, a
    /// `[prompt]` for each other part by its name, `heads.3` `[prompt, head]` and `neurons.3` `[prompt, neuron]` by layer.
    pub fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let rows = |f: fn(&Attributed) -> f32| {
            Array::from_slice(&self.prompts.iter().map(f).collect::<Vec<f32>>(), &[self.prompts.len()])
        };
        let mut all = vec![
            ("logit".to_owned(), rows(|r| r.logit)?),
            ("remainder".to_owned(), rows(|r| r.remainder)?),
            ("components".to_owned(), self.components.to_array()?),
        ];
        for part in &self.others {
            all.push((part.name.clone(), Array::from_slice(&part.values, &[part.values.len()])?));
        }
        for (name, splits) in [("heads", &self.heads), ("neurons", &self.neurons)] {
            for split in splits {
                all.push((format!("{name}.{}", split.layer), split.values.to_array()?));
            }
        }
        Ok(all)
    }

    /// What a prompt's number is called.
    pub fn name(&self, prompt: usize) -> String {
        let row = &self.prompts[prompt];
        let wrong = row.wrong.as_ref().map_or(String::new(), |w| format!(" less that of {w:?}"));
        let cap = self.softcap.map_or(String::new(), |c| format!(", before the soft-cap of {c}"));
        format!("logit of {:?}{wrong} after {:?}{cap}", row.answer, row.after)
    }
}

/// The largest neurons of each prompt, by size.
fn top(neurons: &[Split], prompts: usize, count: usize) -> Vec<TopNeuron> {
    let mut found = Vec::new();
    for prompt in 0..prompts {
        let of_layer = |split: &Split| {
            let (layer, n) = (split.layer, split.values.axes[1].len());
            let own = split.values.values[prompt * n..(prompt + 1) * n].to_vec();
            own.into_iter().enumerate().map(move |(neuron, value)| TopNeuron { prompt, layer, neuron, value })
        };
        let mut all: Vec<TopNeuron> = neurons.iter().flat_map(of_layer).collect();
        all.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
        found.extend(all.into_iter().take(count));
    }
    found
}

impl fmt::Display for LogitAttribution {
    /// A table for each prompt: a line a layer, then the others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, row) in self.prompts.iter().enumerate() {
            writeln!(f, "{}: {:.4}", self.name(i), row.logit)?;
            self.of_prompt(i).map_err(|_| fmt::Error)?.fmt(f)?;
            let width = self.others.iter().map(|p| p.name.chars().count()).max().unwrap_or(0).max(9);
            for part in &self.others {
                writeln!(f, "{:>width$}  {:>9.4}", part.name, part.values[i])?;
            }
            writeln!(f, "{:>width$}  {:>9.4}", "remainder", row.remainder)?;
            for n in self.top_neurons.iter().filter(|n| n.prompt == i) {
                writeln!(f, "layer {:>3}, neuron {:>6}  {:>9.4}", n.layer, n.neuron, n.value)?;
            }
            if !self.heads.is_empty() {
                let heads = self.heads_of_prompt(i).map_err(|_| fmt::Error)?;
                writeln!(f, "largest heads")?;
                for (place, value) in heads.largest(10) {
                    let (layer, head) = (&heads.axes[0].labels[place[0]], &heads.axes[1].labels[place[1]]);
                    writeln!(f, "layer {layer:>3}, head {head:>8}  {value:>9.4}")?;
                }
            }
        }
        Ok(())
    }
}
