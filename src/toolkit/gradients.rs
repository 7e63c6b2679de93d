//! `gradients`: a metric's gradient at sites.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::Gradients;
use crate::error::Result;
use crate::utils::{Axis, Finding, Grid, Metric};
use crate::visualization::bars;

pub(super) const TOOL: Tool = Tool {
    name: "gradients",
    about: "the gradient of a metric at sites, and the sites' values",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    prompts: Prompts,
    sites: Vec<String>,
    #[serde(default)]
    metric: Option<Metric>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let options: Options = call.read()?;
    let trace = model.trace_with(options.prompts, &call.trace_options())?;
    let metric = call.metric(options.metric)?.prepare(model, trace.batch()?.len())?;
    let found = trace.gradients(&options.sites, |fork| metric.of_trace(fork))?;
    Array::eval_all(found.gradients.iter().chain(&found.values).chain([&found.metric]))?;
    metric.numbers(&found.metric)?;
    Ok(Box::new(Found { norms: norms(&found)?, found }))
}

struct Found {
    found: Gradients,
    norms: Grid,
}

fn norms(found: &Gradients) -> Result<Grid> {
    let norm = |a: &Array| Ok(tensor::norm_all(&tensor::cast(a, Dtype::Float32)?)?.item()? as f32);
    Grid::new(vec![Axis::new("site", found.sites.clone())], found.gradients.iter().map(norm).collect::<Result<_>>()?)
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "norm of the gradient")?;
        self.norms.fmt(f)
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        Ok(
            json!({ "metric": self.found.metric.to_vec::<f32>()?, "gradient_norms": super::call::to_json(&self.norms)? }),
        )
    }

    fn figure(&self) -> String {
        bars(&self.norms, "Norm of the gradient")
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let mut all = vec![("metric".to_owned(), self.found.metric.clone())];
        for (i, site) in self.found.sites.iter().enumerate() {
            all.push((format!("gradient:{site}"), self.found.gradients[i].clone()));
            all.push((format!("value:{site}"), self.found.values[i].clone()));
        }
        Ok(all)
    }
}
