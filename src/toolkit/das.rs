//! `das`: the directions of a state that carry a variable, learnt by exchanging them between prompts.

use serde::Deserialize;
use serde_json::Value;

use super::call::to_json;
use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::interpretability::das::{Das, DasOptions, das};
use crate::utils::{Axis, Finding, Grid, Token};
use crate::visualization::bars;

pub(super) const TOOL: Tool = Tool {
    name: "das",
    about: "the subspace of a state that carries a variable: distributed alignment search by interchange interventions",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    base: Prompts,
    source: Prompts,
    answers: Vec<Token>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (given, options): (Options, DasOptions) = call.read_beside(&["base", "source", "answers"])?;
    let trace = call.trace_options();
    Ok(Box::new(das(model, given.base, given.source, &given.answers, &options, &trace, &mut call.progress)?))
}

impl Finding for Das {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        to_json(self)
    }

    fn figure(&self) -> String {
        let judged = self.validation.unwrap_or(self.train);
        let labels = ["untouched", "these directions exchanged", "the whole state exchanged"];
        let values = [judged.untouched, judged.exchanged, judged.whole].map(|v| v as f32).to_vec();
        let grid = Grid::new(vec![Axis::new("run", labels)], values);
        grid.map_or_else(|e| e.to_string(), |g| bars(&g, "Share of pairs that get the source's answer"))
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("directions".to_owned(), Array::from_slice(&self.directions, &[self.width, self.dimensions])?)])
    }
}
