//! A direction a layer, from texts that have something and texts that have it not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::vectors::{Direction, SteeringVectors};
use crate::core::model::{Model, Prompts};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::interpretability::probing::{auc, logistic, standardised};
use crate::utils::linear::{Matrix, dot, leading_direction, length};
use crate::utils::{Pick, Position, Progress, activations};

/// How the direction is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The mean of the positive states less that of the negative ones (Rimsky et al. 2023, "Steering Llama 2 via
    /// contrastive activation addition"; Marks and Tegmark 2023).
    #[default]
    MeanDifference,
    /// The first principal component of the pairs' differences, about their mean, at length 1: repeng's `pca_diff`. As the
    /// mean is taken away it finds along what the differences differ; use `pca_center` for what they share.
    PcaDiff,
    /// The first principal component of the states, each about its pair's middle, at length 1: repeng's `pca_center` (Zou
    /// et al. 2023, "Representation engineering").
    PcaCenter,
    /// The normal of the plane that logistic regression puts between the sets, at length 1.
    Logistic,
}

impl std::str::FromStr for Method {
    type Err = crate::error::Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Method::MeanDifference, Method::PcaDiff, Method::PcaCenter, Method::Logistic];
        match all.into_iter().find(|m| m.name() == name) {
            Some(method) => Ok(method),
            None => bail!(InvalidArgument, "no method '{name}': use mean_difference, pca_diff, pca_center or logistic"),
        }
    }
}

impl Method {
    /// Its name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Method::MeanDifference => "mean_difference",
            Method::PcaDiff => "pca_diff",
            Method::PcaCenter => "pca_center",
            Method::Logistic => "logistic",
        }
    }

    fn takes_pairs(self) -> bool {
        matches!(self, Method::PcaDiff | Method::PcaCenter)
    }
}

/// What is contrasted where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contrast {
    /// Which layers, negative from the last; none: all.
    pub layers: Option<Vec<i64>>,
    /// The value within each layer: "output", "attn", "mlp", "resid_mid", …
    pub site: String,
    /// How.
    pub method: Method,
    /// The position of each text at which its state is read.
    pub position: Position,
    /// Texts that run together.
    pub batch_size: usize,
    /// Penalty of the logistic direction, on features of deviation 1.
    pub l2: f64,
}

impl Default for Contrast {
    fn default() -> Self {
        Self {
            layers: None,
            site: "output".to_owned(),
            method: Method::default(),
            position: Position::Last,
            batch_size: 16,
            l2: 1.0,
        }
    }
}

/// A direction a layer from positive and negative texts; each text runs once, whatever the number of layers. The sign is
/// such that positive texts project higher.
///
/// The PCA methods, and the position "answer", take pairs: the i-th positive with the i-th negative text. `options` is
/// what every run is under. Errors: an empty set, sets of unequal size where pairs are needed, a layer or a position that
/// is not there, states that are not finite.
pub fn steering_vectors(
    model: &Model,
    positive: impl Into<Prompts>,
    negative: impl Into<Prompts>,
    contrast: &Contrast,
    options: &TraceOptions,
    progress: &mut Progress<'_>,
) -> Result<SteeringVectors> {
    let positive = rows_of(model, positive.into(), "positive")?;
    let negative = rows_of(model, negative.into(), "negative")?;
    let pairs = contrast.method.takes_pairs() || contrast.position == Position::Answer;
    if pairs && positive.len() != negative.len() {
        bail!(
            InvalidArgument,
            "{} positive and {} negative texts: '{}' at '{}' takes pairs, as many of the one as of the other",
            positive.len(),
            negative.len(),
            contrast.method.name(),
            contrast.position
        );
    }
    let layers = match &contrast.layers {
        None => (0..model.num_layers()).collect(),
        Some(chosen) => chosen.iter().map(|i| model.layer(*i)).collect::<Result<Vec<_>>>()?,
    };
    let sites: Vec<String> = layers.iter().map(|i| format!("layers.{i}.{}", contrast.site)).collect();
    for site in &sites {
        model.sites().resolve(site)?;
    }
    let n = positive.len();
    let pick = match contrast.position {
        Position::Answer => Pick::At(answers(&positive, &negative)?.repeat(2)),
        other => other.pick(&[positive.as_slice(), negative.as_slice()].concat())?,
    };
    let rows = [positive, negative].concat();
    let found = activations(model, &rows, &sites, &[pick], options, contrast.batch_size, progress)?;
    let mut directions = BTreeMap::new();
    for (s, layer) in layers.iter().enumerate() {
        let states = Matrix::of(found.widths[s], &found.values[s][0])?;
        let made = direction(&states, n, contrast).map_err(|e| e.context(format!("layer {layer}")))?;
        directions.insert(*layer, made);
    }
    Ok(SteeringVectors {
        method: contrast.method.name().to_owned(),
        site: contrast.site.clone(),
        position: contrast.position.to_string(),
        model: model.short_name().to_owned(),
        model_type: model.config()["model_type"].as_str().unwrap_or_default().to_owned(),
        layers: directions,
    })
}

fn rows_of(model: &Model, prompts: Prompts, which: &str) -> Result<Vec<Vec<u32>>> {
    let none = match &prompts {
        Prompts::Text(all) => all.is_empty(),
        Prompts::Tokens(all) => all.is_empty(),
        Prompts::Arrays(_) => bail!(InvalidArgument, "directions are found in texts or token ids, not in arrays"),
    };
    if none {
        bail!(InvalidArgument, "there are no {which} texts: a contrast needs at least one on either side");
    }
    Ok(model.batch(prompts).map_err(|e| e.context(format!("the {which} texts")))?.rows().to_vec())
}

/// Where the two texts of each pair first differ: the answer's token.
fn answers(positive: &[Vec<u32>], negative: &[Vec<u32>]) -> Result<Vec<usize>> {
    let one = |(i, (a, b)): (usize, (&Vec<u32>, &Vec<u32>))| match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => Ok(at),
        None => bail!(
            InvalidArgument,
            "pair {i}: the one text begins with the whole of the other, so they have no answer in which they differ"
        ),
    };
    positive.iter().zip(negative).enumerate().map(one).collect()
}

/// Of states whose first `n` are positive.
fn direction(states: &Matrix, n: usize, contrast: &Contrast) -> Result<Direction> {
    let all = states.rows();
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..n).collect(), (n..all).collect());
    let (positive, negative) = (states.select(&first), states.select(&second));
    let mut vector = match contrast.method {
        Method::MeanDifference => {
            let mut mean = positive.mean();
            mean.iter_mut().zip(negative.mean()).for_each(|(a, b)| *a -= b);
            mean
        }
        Method::PcaDiff => {
            if n < 2 {
                bail!(InvalidArgument, "'pca_diff' needs at least two pairs: about their mean a single one is nothing");
            }
            let differences = differences(&positive, &negative)?;
            leading_direction(&differences.less(&differences.mean()))?
        }
        Method::PcaCenter => leading_direction(&differences(&positive, &negative)?)?,
        Method::Logistic => {
            let labels: Vec<bool> = (0..all).map(|i| i < n).collect();
            let (scaled, deviation) = standardised(states);
            let solution = logistic(&scaled, &labels, contrast.l2, 2000)?;
            if !solution.converged {
                bail!(InvalidArgument, "the logistic direction does not settle: ask for more regularisation (l2)");
            }
            let plain: Vec<f64> = solution.weights.iter().zip(&deviation).map(|(w, d)| w / d).collect();
            let norm = length(&plain);
            plain.iter().map(|w| w / norm).collect()
        }
    };
    if length(&vector) == 0.0 {
        bail!(InvalidArgument, "the positive and the negative states are the same: there is no direction between them");
    }
    if contrast.method.takes_pairs() && points_down(&positive, &negative, &vector) {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
    let labels: Vec<bool> = (0..all).map(|i| i < n).collect();
    let norms: f64 = states.iter().map(length).sum();
    Ok(Direction {
        separation: Some(auc(&states.times(&vector), &labels) as f32),
        state_norm: Some((norms / all as f64) as f32),
        vector: vector.iter().map(|v| *v as f32).collect(),
    })
}

fn differences(positive: &Matrix, negative: &Matrix) -> Result<Matrix> {
    let rows = positive.iter().zip(negative.iter());
    Matrix::new(positive.width(), rows.flat_map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y)).collect())
}

/// Whether in most pairs the positive text projects lower, as repeng asks; the mean decides a draw.
fn points_down(positive: &Matrix, negative: &Matrix, vector: &[f64]) -> bool {
    let apart: Vec<f64> = positive.iter().zip(negative.iter()).map(|(a, b)| dot(a, vector) - dot(b, vector)).collect();
    let (up, down) = (apart.iter().filter(|x| **x > 0.0).count(), apart.iter().filter(|x| **x < 0.0).count());
    down > up || (down == up && apart.iter().sum::<f64>() < 0.0)
}
