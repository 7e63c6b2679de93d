//! `head_circuit`: the QK and OV circuits of a head, as factors.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Tool};
use crate::analysis::attention::{Eigenvalue, HeadCircuit, head_circuit};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::{Axis, Finding, Grid};
use crate::visualization::bars;

pub(super) const TOOL: Tool = Tool {
    name: "head_circuit",
    about: "the QK and OV circuits of a head: factors, singular values, eigenvalues, and what they leave out",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    layer: usize,
    head: usize,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    call.weights_only()?;
    let Options { layer, head } = call.read()?;
    Ok(Box::new(head_circuit(model, layer, head)?))
}

impl Finding for HeadCircuit {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "layer": self.layer,
            "head": self.head,
            "shape": self.qk.shape(),
            "qk": { "singular_values": self.qk_singular, "eigenvalues": self.qk_eigenvalues },
            "ov": { "singular_values": self.ov_singular, "eigenvalues": self.ov_eigenvalues },
            "left_out": self.left_out,
        }))
    }

    fn figure(&self) -> String {
        let drawn = |values: &[f32], title: &str| {
            let grid = Grid { axes: vec![Axis::counted("number", values.len())], values: values.to_vec() };
            bars(&grid, &format!("{title} of head {}.{}: singular values", self.layer, self.head))
        };
        drawn(&self.qk_singular, "QK") + &drawn(&self.ov_singular, "OV")
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let pairs = |all: &[Eigenvalue]| {
            let flat: Vec<f32> = all.iter().flat_map(|e| [e.re, e.im]).collect();
            Array::from_slice(&flat, &[all.len(), 2])
        };
        let named = |name: &str, array: Array| (name.to_owned(), array);
        Ok(vec![
            named("qk.a", self.qk.a().clone()),
            named("qk.b", self.qk.b().clone()),
            named("ov.a", self.ov.a().clone()),
            named("ov.b", self.ov.b().clone()),
            named("qk.singular_values", Array::from_slice(&self.qk_singular, &[self.qk_singular.len()])?),
            named("ov.singular_values", Array::from_slice(&self.ov_singular, &[self.ov_singular.len()])?),
            named("qk.eigenvalues", pairs(&self.qk_eigenvalues)?),
            named("ov.eigenvalues", pairs(&self.ov_eigenvalues)?),
        ])
    }
}
