//! Directions of layers, and the interventions they become.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::intervention::{Intervention, Positions};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::linear;

/// A direction of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Direction {
    /// As it was found: `[width]`.
    pub vector: Vec<f32>,
    /// The mean length of the states it was found in; not known of vectors from elsewhere.
    pub state_norm: Option<f32>,
    /// How well it tells the two sets apart that it was found from: the chance that a positive text projects higher than a
    /// negative one (area under the ROC curve).
    pub separation: Option<f32>,
}

/// Directions by layer, all of one width, and where they come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SteeringVectors {
    /// How they were found ("mean_difference"); empty when nobody says.
    pub method: String,
    /// The value within each layer that they belong to ("output").
    pub site: String,
    /// The position at which the states were read ("last"); empty when nobody says.
    pub position: String,
    /// The model.
    pub model: String,
    /// Its architecture, as `model_type` in config.json has it.
    pub model_type: String,
    /// By layer, counted from 0.
    pub layers: BTreeMap<usize, Direction>,
}

/// What is done along a direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// `x + strength v`
    Add {
        /// Multiplies the vector, once it has its length.
        strength: f64,
    },
    /// `x - (x·v)v`, `v` at length 1: directional ablation (Arditi et al. 2024, "Refusal in language models is mediated by
    /// a single direction").
    ProjectOut,
    /// `x + (value - x·v)v`, `v` at length 1.
    SetComponent {
        /// What the component becomes.
        value: f64,
    },
}

/// The length at which a vector is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Its own.
    #[default]
    None,
    /// 1.
    Unit,
    /// The mean length of the states it was found in, so that strengths mean the same in every layer.
    State,
}

/// How directions are used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steer {
    /// What is done.
    pub action: Action,
    /// In these layers; none: in all that have one.
    pub layers: Option<Vec<usize>>,
    /// At these positions, negative from each row's own end; none: at all.
    pub positions: Option<Positions>,
    /// The length of what is added.
    pub normalise: Normalise,
}

impl Default for Steer {
    fn default() -> Self {
        Self { action: Action::Add { strength: 1.0 }, layers: None, positions: None, normalise: Normalise::None }
    }
}

impl Direction {
    /// By what the vector is to be multiplied to have a length.
    pub fn factor(&self, normalise: Normalise) -> Result<f64> {
        let wide: Vec<f64> = self.vector.iter().map(|v| f64::from(*v)).collect();
        let own = linear::length(&wide);
        if own.is_nan() || own <= 0.0 || own.is_infinite() {
            bail!(InvalidArgument, "a direction of length {own}: it must be a number above 0");
        }
        match (normalise, self.state_norm) {
            (Normalise::None, _) => Ok(1.0),
            (Normalise::Unit, _) => Ok(1.0 / own),
            (Normalise::State, Some(states)) => Ok(f64::from(states) / own),
            (Normalise::State, None) => {
                bail!(InvalidArgument, "how long the states were is not known of these vectors: use 'unit' or 'none'")
            }
        }
    }
}

impl SteeringVectors {
    /// Numbers in each vector.
    pub fn width(&self) -> usize {
        self.layers.values().next().map_or(0, |d| d.vector.len())
    }

    /// The direction of a layer.
    pub fn layer(&self, layer: usize) -> Result<&Direction> {
        match self.layers.get(&layer) {
            Some(direction) => Ok(direction),
            None => bail!(
                InvalidArgument,
                "there is no direction for layer {layer}: there are some for layers {}",
                self.layers.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Refuses vectors that are not of a model's width or layers.
    pub fn check(&self, model: &Model) -> Result<()> {
        let (own, wanted) = (self.width(), model.hidden_size());
        let residual = ["output", "input", "resid_pre", "resid_mid", "resid_post", "attn", "mlp"];
        if residual.contains(&self.site.as_str()) && own != wanted {
            bail!(
                Shape,
                "vectors of width {own} for a model whose states have width {wanted}: they are of another model"
            );
        }
        match self.layers.keys().next_back() {
            Some(last) if *last >= model.num_layers() => {
                bail!(InvalidArgument, "a vector for layer {last}: the model has {} layers", model.num_layers())
            }
            _ => Ok(()),
        }
    }

    /// One intervention a layer, by site, for `TraceOptions::interventions`.
    pub fn interventions(&self, how: &Steer) -> Result<Vec<(String, Intervention)>> {
        let layers = match &how.layers {
            None => self.layers.keys().copied().collect(),
            Some(chosen) => chosen.clone(),
        };
        if layers.is_empty() {
            bail!(InvalidArgument, "no layers to steer");
        }
        let one = |layer: &usize| {
            let direction = self.layer(*layer)?;
            let factor = direction.factor(how.normalise).map_err(|e| e.context(format!("layer {layer}")))?;
            let vector = Array::from_slice(&direction.vector, &[direction.vector.len()])?;
            let mut made = match how.action {
                Action::Add { strength } => Intervention::add_vector(vector, strength * factor),
                Action::ProjectOut => Intervention::project_out(vector),
                Action::SetComponent { value } => Intervention::set_component(vector, value),
            };
            made.select.positions.clone_from(&how.positions);
            Ok((format!("layers.{layer}.{}", self.site), made))
        };
        layers.iter().map(one).collect()
    }
}

impl fmt::Display for SteeringVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.method.is_empty() { "vectors" } else { &self.method };
        writeln!(f, "{from} of width {} at layers.*.{} of {}", self.width(), self.site, self.model)?;
        writeln!(f, "layer    length    states  separation")?;
        for (layer, d) in &self.layers {
            let wide: Vec<f64> = d.vector.iter().map(|v| f64::from(*v)).collect();
            write!(f, "{layer:>5} {:>9.4}", linear::length(&wide))?;
            for known in [d.state_norm, d.separation] {
                match known {
                    Some(v) => write!(f, " {v:>9.4}")?,
                    None => write!(f, "         ?")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
