//! What every result of an analysis can do, whichever front end asks.

use std::fmt::Display;

use serde_json::Value;

use crate::core::tensor::Array;
use crate::error::Result;

/// A plain result: printed ([`Display`]), written down, drawn, and its numbers handed on.
pub trait Finding: Display + Send + Sync {
    /// Which analysis made it ("logit_lens").
    fn kind(&self) -> &'static str;

    /// All of it, axes by name.
    fn json(&self) -> Result<Value>;

    /// A fragment of HTML with its own styles: no script, no font, no request. It can stand in any page.
    fn figure(&self) -> String;

    /// Its arrays by name: what other calls take, and what is too large to read as JSON.
    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(Vec::new())
    }
}
