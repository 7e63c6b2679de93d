//! Changes as values: what to do to a site, and to which rows, positions, heads or neurons of it.
//!
//! An intervention is comparable, printable and serialisable, so the same one can be replayed from every front end.

mod apply;
mod condition;
mod json;
mod kind;
mod selector;

pub use apply::Scene;
pub use condition::{Condition, Side};
pub use kind::{Custom, Event, Kind, Tensor};
pub use selector::{Positions, Selector};

use crate::core::tensor::Array;
use crate::error::Result;

/// A change of one site's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Intervention {
    /// What is done.
    pub kind: Kind,
    /// Where within the site; everywhere when empty.
    pub select: Selector,
}

impl From<Kind> for Intervention {
    fn from(kind: Kind) -> Self {
        Self { kind, select: Selector::default() }
    }
}

impl Intervention {
    /// Zeros in place of the value (zero ablation).
    pub fn zero_out() -> Self {
        Kind::ZeroOut.into()
    }

    /// The value times `factor`.
    pub fn scale(factor: f64) -> Self {
        Kind::Scale { factor }.into()
    }

    /// The value plus `vector` times `strength`; the vector broadcasts to the site.
    pub fn add_vector(vector: Array, strength: f64) -> Self {
        Kind::AddVector { vector: vector.into(), strength }.into()
    }

    /// `value` in place of the value; it broadcasts to the site.
    pub fn replace_with(value: Array) -> Self {
        Kind::ReplaceWith { value: value.into() }.into()
    }

    /// Values below `low` become `low`, above `high` become `high`.
    pub fn clamp(low: Option<f64>, high: Option<f64>) -> Self {
        Kind::Clamp { low, high }.into()
    }

    /// Independent normal noise of standard deviation `std` added. The same seed at the same site gives each row what
    /// its solo run would get, so rows of one length get the same noise; give rows their own seeds with a selector.
    pub fn noise(std: f64, seed: u64) -> Self {
        Kind::Noise { std, seed }.into()
    }

    /// The value without its component along `direction` (directional ablation): `x - (x·v)v`, `v` being the direction
    /// at length 1. The direction is a vector of the site's features, or broadcasts to the site with them as last axis;
    /// its length does not matter, 0 is an error. With [`neurons`](Self::neurons) only those of the result are taken.
    pub fn project_out(direction: Array) -> Self {
        Kind::ProjectOut { direction: direction.into() }.into()
    }

    /// The value with its component along `direction` set to `value`: `x + (value - x·v)v`. See
    /// [`project_out`](Self::project_out), which sets it to 0.
    pub fn set_component(direction: Array, value: f64) -> Self {
        Kind::SetComponent { direction: direction.into(), value }.into()
    }

    /// One after another.
    pub fn compose(parts: Vec<Intervention>) -> Self {
        Kind::Compose { parts }.into()
    }

    /// Whatever a function makes of the value. `name` is how it prints.
    pub fn custom(
        name: impl Into<String>,
        f: impl Fn(&Event<'_>, &Array) -> Result<Option<Array>> + Send + Sync + 'static,
    ) -> Self {
        Kind::Custom(Custom::new(name, f)).into()
    }

    /// The same, on these rows of the batch only (negative from the end).
    pub fn rows(mut self, rows: impl Into<Vec<i64>>) -> Self {
        self.select.rows = Some(rows.into());
        self
    }

    /// The same, at these positions of every row only (negative from that row's own end).
    pub fn positions(mut self, positions: impl Into<Vec<i64>>) -> Self {
        self.select.positions = Some(Positions::Same(positions.into()));
        self
    }

    /// The same, at each row's own list of positions only.
    pub fn positions_by_row(mut self, positions: Vec<Vec<i64>>) -> Self {
        self.select.positions = Some(Positions::ByRow(positions));
        self
    }

    /// The same, on these heads only (sites with a head axis).
    pub fn heads(mut self, heads: impl Into<Vec<i64>>) -> Self {
        self.select.heads = Some(heads.into());
        self
    }

    /// The same, on these features of the last axis only.
    pub fn neurons(mut self, neurons: impl Into<Vec<i64>>) -> Self {
        self.select.neurons = Some(neurons.into());
        self
    }

    /// Whether it speaks of single rows of the batch.
    pub fn names_rows(&self) -> bool {
        let nested = matches!(&self.kind, Kind::Compose { parts } if parts.iter().any(Intervention::names_rows));
        nested || self.select.rows.is_some() || matches!(self.select.positions, Some(Positions::ByRow(_)))
    }
}
