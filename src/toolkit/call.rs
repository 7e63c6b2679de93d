//! What a tool is called with.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Tool;
use crate::core::intervention::Intervention;
use crate::core::tensor::Array;
use crate::core::trace::TraceOptions;
use crate::error::{ErrorKind, Result, bail, err};
use crate::utils::{Metric, Progress};

/// The arguments of a tool, as a front end has them.
#[derive(Default)]
pub struct Call<'a> {
    /// An object of options; null is no options.
    pub options: Value,
    /// Arrays by name.
    pub arrays: Vec<(String, Array)>,
    /// Interventions that every run of the tool is under, by site or pattern.
    pub interventions: Vec<(String, Intervention)>,
    /// A metric that is a function; it goes before one named in the options.
    pub metric: Option<Metric>,
    /// Told how far it has come.
    pub progress: Progress<'a>,
    name: &'static str,
}

impl<'a> Call<'a> {
    /// With these options.
    pub fn new(options: Value) -> Self {
        Self { options, ..Self::default() }
    }

    /// From the text of a JSON object; empty text is no options.
    pub fn parse(options: &str) -> Result<Self> {
        if options.trim().is_empty() {
            return Ok(Self::default());
        }
        let options = serde_json::from_str(options).map_err(|e| err!(InvalidArgument, "options are not JSON: {e}"))?;
        Ok(Self::new(options))
    }

    /// Refuses what the tool does not take.
    pub(super) fn check(&mut self, tool: &'static Tool) -> Result<()> {
        self.name = tool.name;
        if let Some((name, _)) = self.arrays.iter().find(|(n, _)| !tool.arrays.contains(&n.as_str())) {
            match tool.arrays {
                [] => bail!(InvalidArgument, "'{}' takes no arrays, '{name}' was given", tool.name),
                known => {
                    bail!(InvalidArgument, "'{}' takes no array '{name}': it takes {}", tool.name, known.join(", "))
                }
            }
        }
        if self.metric.is_some() && !tool.metric {
            bail!(InvalidArgument, "'{}' measures nothing: it takes no metric", tool.name);
        }
        Ok(())
    }

    /// The options as the tool knows them. An unknown or missing one is an error that names it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let given = if self.options.is_null() { Value::Object(Default::default()) } else { self.options.clone() };
        serde_json::from_value(given).map_err(|e| err!(InvalidArgument, "options of '{}': {e}", self.name))
    }

    /// The options in two parts: those of these names, and the others, which an analysis knows.
    pub fn read_beside<A: DeserializeOwned, B: DeserializeOwned>(&self, beside: &[&str]) -> Result<(A, B)> {
        let Value::Object(all) = &self.options else {
            return Ok((self.read()?, self.read()?));
        };
        let part = |own: bool| -> Value {
            let mine = all.iter().filter(|(name, _)| beside.contains(&name.as_str()) == own);
            Value::Object(mine.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        let told = |e| err!(InvalidArgument, "options of '{}': {e}", self.name);
        Ok((serde_json::from_value(part(true)).map_err(told)?, serde_json::from_value(part(false)).map_err(told)?))
    }

    /// An array by name.
    pub fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.iter().find(|(n, _)| n == name).map(|(_, a)| a)
    }

    /// An array that must be there.
    pub fn need(&self, name: &str) -> Result<&Array> {
        self.array(name).ok_or_else(|| err!(InvalidArgument, "'{}' needs the array '{name}'", self.name))
    }

    /// The metric: a function where one was given, else the one named in the options.
    pub fn metric(&self, named: Option<Metric>) -> Result<Metric> {
        self.metric.clone().or(named).ok_or_else(|| {
            err!(
                InvalidArgument,
                "'{}' needs a metric, such as {{\"logit_difference\": {{\"answer\": \" Paris\", \"wrong\": \" Rome\"}}}}",
                self.name
            )
        })
    }

    /// Refuses interventions, for a tool that reads weights and runs nothing.
    pub(super) fn weights_only(&self) -> Result<()> {
        if let Some((pattern, _)) = self.interventions.first() {
            bail!(
                InvalidArgument,
                "'{}' reads weights and runs nothing: the intervention at '{pattern}' would change nothing",
                self.name
            );
        }
        Ok(())
    }

    /// Options of a trace under the call's interventions.
    pub fn trace_options(&self) -> TraceOptions {
        TraceOptions { interventions: self.interventions.clone(), ..TraceOptions::default() }
    }
}

/// A result as JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| crate::error::Error::new(ErrorKind::Backend, format!("as JSON: {e}")))
}
