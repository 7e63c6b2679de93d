//! `edge_attribution`: what every edge between heads, MLPs, embedding and logits is worth.

use serde::Deserialize;
use serde_json::{Value, json};

use super::circuit::draw;
use super::{Call, Tool};
use crate::analysis::circuits::{Circuit, EdgeAttribution, EdgeAttributionOptions, edge_attribution};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::{Finding, Metric};

pub(super) const TOOL: Tool = Tool {
    name: "edge_attribution",
    about: "what every edge from a head, an MLP or the embedding to a later query, key, value, MLP or the logits is worth \
            (EAP, EAP-IG, or patching each one)",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    clean: Prompts,
    corrupt: Prompts,
    #[serde(default)]
    metric: Option<Metric>,
    /// Edges of the circuit that is made of the largest.
    #[serde(default = "fifty")]
    edges: usize,
}

fn fifty() -> usize {
    50
}

struct Found {
    all: EdgeAttribution,
    circuit: Circuit,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (given, mut options): (Given, EdgeAttributionOptions) =
        call.read_beside(&["clean", "corrupt", "metric", "edges"])?;
    options.runs = call.trace_options();
    let metric = call.metric(given.metric)?;
    let all = edge_attribution(model, given.clean, given.corrupt, &metric, &options, call.progress.take())?;
    let circuit = all.circuit(given.edges);
    Ok(Box::new(Found { all, circuit }))
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\ncircuit: {}", self.all, self.circuit)
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        let senders: Vec<String> = self.all.graph.senders().iter().map(ToString::to_string).collect();
        let receivers: Vec<String> = self.all.graph.receivers().iter().map(ToString::to_string).collect();
        Ok(json!({
            "method": self.all.method,
            "measured": self.all.measured,
            "clean": self.all.clean,
            "corrupt": self.all.corrupt,
            "total_edges": self.all.edges.len(),
            "senders": senders,
            "receivers": receivers,
            "circuit": super::call::to_json(&self.circuit)?,
        }))
    }

    fn figure(&self) -> String {
        let remark = format!(
            "{}: the {} largest of {} edges; width by how much corrupting the edge changes the {}",
            self.all.method,
            self.circuit.edges.len(),
            self.all.edges.len(),
            self.all.measured
        );
        draw(&self.circuit, "Edges", &remark)
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("scores".to_owned(), self.all.scores.clone())])
    }
}
