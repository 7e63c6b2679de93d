//! What can be done to a value.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::tensor::{Array, Dtype};
use crate::error::{Result, bail};

/// What is done to a value, before any selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Zeros.
    ZeroOut,
    /// Times a number.
    Scale {
        /// The number.
        factor: f64,
    },
    /// Plus a vector.
    AddVector {
        /// Broadcasts to the site.
        vector: Tensor,
        /// Multiplies the vector.
        #[serde(default = "one")]
        strength: f64,
    },
    /// Another value.
    ReplaceWith {
        /// Broadcasts to the site.
        value: Tensor,
    },
    /// Bounds.
    Clamp {
        /// Lower bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f64>,
        /// Upper bound.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<f64>,
    },
    /// Plus normal noise.
    Noise {
        /// Standard deviation.
        #[serde(default = "one")]
        std: f64,
        /// Seed.
        seed: u64,
    },
    /// Without its component along a direction: `x - (x·v)v` with `v` of length 1, along the last axis.
    ProjectOut {
        /// Of any length but 0; its last axis is the site's.
        direction: Tensor,
    },
    /// With its component along a direction set: `x + (value - x·v)v` with `v` of length 1, along the last axis.
    SetComponent {
        /// Of any length but 0; its last axis is the site's.
        direction: Tensor,
        /// What the component becomes.
        value: f64,
    },
    /// One after another.
    Compose {
        /// In this order.
        parts: Vec<super::Intervention>,
    },
    /// A function of the front end; cannot be serialised.
    #[serde(skip)]
    Custom(Custom),
}

fn one() -> f64 {
    1.0
}

/// An array as part of an intervention: compared and serialised by value (numbers in float32).
#[derive(Clone)]
pub struct Tensor(pub Array);

impl From<Array> for Tensor {
    fn from(a: Array) -> Self {
        Tensor(a)
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        let same_type = self.0.shape() == other.0.shape() && self.0.dtype() == other.0.dtype();
        // Values that cannot be computed are equal to nothing, themselves included.
        same_type && matches!((self.0.to_vec::<f32>(), other.0.to_vec::<f32>()), (Ok(a), Ok(b)) if a == b)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.0.dtype(), self.0.shape())
    }
}

impl Tensor {
    /// Refuses a direction that points nowhere: divided by its length it would be no number.
    fn check_direction(&self) -> Result<()> {
        let width = if self.0.ndim() == 0 { 0 } else { self.0.dim(-1) };
        if width == 0 {
            bail!(Shape, "a direction of shape {:?}: its last axis must be the site's features", self.0.shape());
        }
        for row in self.0.to_vec::<f32>()?.chunks(width) {
            if row.iter().any(|v| !v.is_finite()) {
                bail!(InvalidArgument, "a direction with infinities or NaN");
            }
            if row.iter().all(|v| *v == 0.0) {
                bail!(InvalidArgument, "a direction of length 0 points nowhere: give one with a number other than 0");
            }
        }
        Ok(())
    }
}

/// How a tensor is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    dtype: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Serialize for Tensor {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let data = self.0.to_vec::<f32>().map_err(serde::ser::Error::custom)?;
        if data.iter().any(|v| !v.is_finite()) {
            return Err(serde::ser::Error::custom("a value with infinities or NaN has no JSON form"));
        }
        Written { dtype: self.0.dtype().name().to_owned(), shape: self.0.dims(), data }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let w = Written::deserialize(d)?;
        let made = Dtype::from_name(&w.dtype)
            .and_then(|dtype| crate::core::tensor::cast(&Array::from_slice(&w.data, &w.shape)?, dtype));
        made.map(Tensor).map_err(serde::de::Error::custom)
    }
}

/// What a custom function is told besides the value.
#[derive(Debug)]
pub struct Event<'a> {
    /// Full name of the site.
    pub site: &'a str,
    /// Generation step; 0 in a plain forward.
    pub step: usize,
    /// Tokens of each row of the batch.
    pub lengths: &'a [usize],
}

type Function = dyn Fn(&Event<'_>, &Array) -> Result<Option<Array>> + Send + Sync;

/// A named function. Returning `None` leaves the value as it is. Equal only to itself.
#[derive(Clone)]
pub struct Custom {
    name: String,
    function: Arc<Function>,
}

impl Custom {
    /// Names a function.
    pub fn new(
        name: impl Into<String>,
        f: impl Fn(&Event<'_>, &Array) -> Result<Option<Array>> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), function: Arc::new(f) }
    }

    /// How it prints.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn call(&self, event: &Event<'_>, value: &Array) -> Result<Option<Array>> {
        (self.function)(event, value)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function, &other.function)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "custom({})", self.name)
    }
}

impl Kind {
    /// Refuses numbers that can only be mistakes.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Kind::Scale { factor } if !factor.is_finite() => bail!(InvalidArgument, "scale by {factor}"),
            Kind::Clamp { low: None, high: None } => {
                bail!(InvalidArgument, "clamp without bounds: give low, high or both")
            }
            Kind::Clamp { low: Some(l), high: Some(h) } if l > h => {
                bail!(InvalidArgument, "clamp from {l} to {h}: low must not be above high")
            }
            Kind::Noise { std, .. } if !std.is_finite() || *std < 0.0 => {
                bail!(InvalidArgument, "noise of standard deviation {std}: it must be 0 or more")
            }
            Kind::SetComponent { value, .. } if !value.is_finite() => {
                bail!(InvalidArgument, "a component set to {value}: it must be a finite number")
            }
            Kind::ProjectOut { direction } | Kind::SetComponent { direction, .. } => direction.check_direction(),
            _ => Ok(()),
        }
    }
}
