//! A probe: a straight line through states, and the three ways to lay it.

use serde::{Deserialize, Serialize};

use super::logistic::logistic;
use super::scores::standardised;
use crate::error::{Result, bail};
use crate::utils::linear::{Matrix, add_scaled, dot, solve};

/// How a probe is fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Ridge regression of the labels, which may be any numbers; of labels 0 and 1 it says 1 above one half.
    Linear,
    /// Logistic regression with an L2 penalty, of labels 0 and 1.
    #[default]
    Logistic,
    /// The difference of the classes' means (Marks and Tegmark 2023, "The geometry of truth"), of labels 0 and 1.
    MassMean,
}

impl Kind {
    /// Its name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Linear => "linear",
            Kind::Logistic => "logistic",
            Kind::MassMean => "mass_mean",
        }
    }
}

/// How to fit.
#[derive(Clone, Copy, Debug)]
pub struct Fit {
    /// Which way.
    pub kind: Kind,
    /// Penalty on the squared weights.
    pub l2: f64,
    /// Whether features are brought to mean 0 and deviation 1 first; weights come back for features as they are.
    pub standardise: bool,
    /// Mass-mean: whether the difference is multiplied by the inverse of the covariance within the classes.
    pub covariance: bool,
    /// Steps of the logistic fit at most.
    pub max_iterations: usize,
}

/// Weights of features as they are, and what the fit says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// How it was fitted.
    pub kind: Kind,
    /// `[width]`
    #[serde(skip)]
    pub weights: Vec<f32>,
    /// Added to `x·weights`.
    pub bias: f32,
    /// Whether the fit came to its end; false only of a logistic one that ran out of steps.
    pub converged: bool,
}

impl Probe {
    /// `x·weights + bias` of each row: of a linear probe the label it expects, else the log odds of class 1.
    pub fn scores(&self, x: &Matrix) -> Result<Vec<f64>> {
        if x.width() != self.weights.len() {
            bail!(Shape, "a probe of width {} on rows of width {}", self.weights.len(), x.width());
        }
        let wide: Vec<f64> = self.weights.iter().map(|w| f64::from(*w)).collect();
        Ok(x.times(&wide).iter().map(|z| z + f64::from(self.bias)).collect())
    }

    /// Fits one. The caller has checked that the labels suit the kind.
    pub fn fit(x: &Matrix, labels: &[f64], how: &Fit) -> Result<Self> {
        if !how.l2.is_finite() || how.l2 < 0.0 {
            bail!(InvalidArgument, "l2 of {}: it must be 0 or more", how.l2);
        }
        let mean = x.mean();
        let (scaled, deviation) = match how.standardise {
            true => standardised(x),
            false => (x.less(&mean), vec![1.0; x.width()]),
        };
        let second: Vec<bool> = labels.iter().map(|l| *l > 0.5).collect();
        let (weights, bias, converged) = match how.kind {
            Kind::Linear => {
                let middle = labels.iter().sum::<f64>() / labels.len() as f64;
                let y: Vec<f64> = labels.iter().map(|l| l - middle).collect();
                (ridge(&scaled, &y, how.l2)?, middle, true)
            }
            Kind::Logistic => {
                let found = logistic(&scaled, &second, how.l2, how.max_iterations)?;
                (found.weights, found.bias, found.converged)
            }
            Kind::MassMean => {
                let (w, b) = mass_mean(&scaled, &second, how)?;
                (w, b, true)
            }
        };
        let plain: Vec<f64> = weights.iter().zip(&deviation).map(|(w, d)| w / d).collect();
        let bias = bias - dot(&plain, &mean);
        if plain.iter().chain([&bias]).any(|v| !v.is_finite()) {
            bail!(InvalidArgument, "the fit gives no finite weights: ask for more regularisation (l2)");
        }
        let weights = plain.iter().map(|w| *w as f32).collect();
        Ok(Self { kind: how.kind, weights, bias: bias as f32, converged })
    }
}

/// Minimises `|x w - y|² + l2 |w|²`, by whichever set of equations is the smaller.
fn ridge(x: &Matrix, y: &[f64], l2: f64) -> Result<Vec<f64>> {
    let of_rows = x.rows() < x.width();
    let n = x.rows().min(x.width());
    let mut products = x.products(of_rows);
    (0..n).for_each(|i| products[i * n + i] += l2);
    match of_rows {
        true => Ok(x.weighted_sum(&solve(products, y)?)),
        false => solve(products, &x.weighted_sum(y)),
    }
}

/// Weights, and a bias that puts the line halfway between the means.
fn mass_mean(x: &Matrix, second: &[bool], how: &Fit) -> Result<(Vec<f64>, f64)> {
    let of = |class: bool| (0..second.len()).filter(|i| second[*i] == class).collect::<Vec<_>>();
    let (low, high) = (x.select(&of(false)), x.select(&of(true)));
    let (below, above) = (low.mean(), high.mean());
    let mut weights = above.clone();
    add_scaled(&mut weights, &below, -1.0);
    if how.covariance {
        let centred = [low.less(&below), high.less(&above)];
        let data = centred.iter().flat_map(|m| m.iter().flatten().copied()).collect();
        weights = through_covariance(&Matrix::new(x.width(), data)?, &weights, how.l2)?;
    }
    let bias = -0.5 * (dot(&weights, &below) + dot(&weights, &above));
    Ok((weights, bias))
}

/// `(XᵀX/n + l2/n)⁻¹ v`, through the rows' products where there are fewer rows than features (Woodbury).
fn through_covariance(x: &Matrix, v: &[f64], l2: f64) -> Result<Vec<f64>> {
    let of_rows = x.rows() < x.width();
    let (n, size) = (x.rows() as f64, x.rows().min(x.width()));
    let mut products = x.products(of_rows);
    (0..size).for_each(|i| products[i * size + i] += l2);
    if !of_rows {
        let scaled: Vec<f64> = v.iter().map(|a| a * n).collect();
        return solve(products, &scaled);
    }
    if l2 == 0.0 {
        bail!(InvalidArgument, "fewer rows than features have no inverse covariance: ask for regularisation (l2)");
    }
    let inner = x.weighted_sum(&solve(products, &x.times(v))?);
    Ok(v.iter().zip(&inner).map(|(a, b)| (a - b) * n / l2).collect())
}
