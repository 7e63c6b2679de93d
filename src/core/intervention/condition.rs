//! Conditions: a linear probe and a threshold, decided row by row on the device.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kind::Tensor;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::core::trace::at_the_end;
use crate::error::{Result, bail};

/// On which side of the threshold the probe must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The probe is greater than the threshold.
    Above,
    /// The probe is less than the threshold.
    Below,
}

/// True for a row while `direction . value + bias` is above (below) `threshold`, where `value` is what the site has at
/// the row's last position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The site that is probed: one of shape `[row, position, feature]`.
    pub site: String,
    /// The probe's weights, `[feature]`.
    pub direction: Tensor,
    /// Added to the product.
    #[serde(default)]
    pub bias: f64,
    /// What the probe is compared with.
    pub threshold: f64,
    /// How.
    pub side: Side,
}

impl Condition {
    /// While the probe of `site` is greater than `threshold`.
    pub fn above(site: impl Into<String>, direction: Array, threshold: f64) -> Self {
        Self { site: site.into(), direction: direction.into(), bias: 0.0, threshold, side: Side::Above }
    }

    /// While the probe of `site` is less than `threshold`.
    pub fn below(site: impl Into<String>, direction: Array, threshold: f64) -> Self {
        Self { side: Side::Below, ..Self::above(site, direction, threshold) }
    }

    /// The same probe with a bias.
    pub fn with_bias(mut self, bias: f64) -> Self {
        self.bias = bias;
        self
    }

    /// Refuses numbers that can only be mistakes.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.bias.is_finite() || self.threshold.is_nan() {
            bail!(InvalidArgument, "{self}: bias {} and threshold {} must be numbers", self.bias, self.threshold);
        }
        Ok(())
    }

    /// Which rows meet it: `[row]`, bool, lazily. `value` is the probed site's, `lengths` are those of its rows. A row
    /// without a position does not meet it.
    pub(crate) fn mask(&self, value: &Array, lengths: &[usize]) -> Result<Array> {
        let direction = &self.direction.0;
        if value.ndim() != 3 || value.dim(0) != lengths.len() {
            bail!(
                Shape,
                "a probe reads sites of shape [row, position, feature]; '{}' has {:?}",
                self.site,
                value.shape()
            );
        }
        if direction.ndim() != 1 || direction.dim(0) != value.dim(2) {
            bail!(
                Shape,
                "the probe's direction has shape {:?}, '{}' has {} features: give [{2}]",
                direction.shape(),
                self.site,
                value.dim(2)
            );
        }
        let last = t::cast(&t::squeeze(&at_the_end(value, lengths)?, 1)?, Dtype::Float32)?;
        let product = t::sum(&t::mul(&last, &t::cast(direction, Dtype::Float32)?)?, -1, false)?;
        let probe = t::add(&product, &Array::scalar(self.bias, Dtype::Float32)?)?;
        let threshold = Array::scalar(self.threshold, Dtype::Float32)?;
        let met = match self.side {
            Side::Above => t::greater(&probe, &threshold)?,
            Side::Below => t::less(&probe, &threshold)?,
        };
        if lengths.iter().all(|n| *n > 0) {
            return Ok(met);
        }
        let there: Vec<bool> = lengths.iter().map(|n| *n > 0).collect();
        t::and(&met, &Array::from_slice(&there, &[there.len()])?)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Above { "above" } else { "below" };
        write!(f, "while the probe at '{}' is {side} {}", self.site, self.threshold)
    }
}
