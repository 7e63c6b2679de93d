//! `circuit`: a circuit pruned, measured and drawn.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Tool};
use crate::analysis::circuits::{Circuit, CircuitEvaluation, EvaluateOptions, Receiver, Sender, evaluate_circuit};
use crate::core::model::{Model, Prompts};
use crate::error::{Result, bail};
use crate::utils::{Finding, Metric};
use crate::visualization::{GraphEdge, GraphNode, graph};

pub(super) const TOOL: Tool = Tool {
    name: "circuit",
    about: "a circuit pruned to its largest edges, drawn, and measured by faithfulness and completeness",
    arrays: &[],
    metric: true,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    circuit: Circuit,
    /// Only so many of the largest edges.
    #[serde(default)]
    largest: Option<usize>,
    /// Only edges at least this large.
    #[serde(default)]
    above: Option<f32>,
    /// Measured on these; not at all without them.
    #[serde(default)]
    clean: Option<Prompts>,
    /// What cut edges carry comes from these.
    #[serde(default)]
    corrupt: Option<Prompts>,
    #[serde(default)]
    metric: Option<Metric>,
}

struct Found {
    circuit: Circuit,
    evaluation: Option<CircuitEvaluation>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let own = ["circuit", "largest", "above", "clean", "corrupt", "metric"];
    let (given, mut options): (Given, EvaluateOptions) = call.read_beside(&own)?;
    options.runs = call.trace_options();
    let mut circuit = given.circuit.checked()?;
    if let Some(n) = given.largest {
        circuit = circuit.largest(n);
    }
    if let Some(threshold) = given.above {
        circuit = circuit.above(threshold);
    }
    let evaluation = match (given.clean, given.corrupt) {
        (None, None) => None,
        (Some(clean), Some(corrupt)) => {
            let metric = call.metric(given.metric)?;
            Some(evaluate_circuit(model, &circuit, clean, corrupt, &metric, &options)?)
        }
        _ => bail!(InvalidArgument, "a circuit is measured on clean and corrupt prompts: one of the two is missing"),
    };
    Ok(Box::new(Found { circuit, evaluation }))
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(evaluation) = &self.evaluation {
            evaluation.fmt(f)?;
        }
        self.circuit.fmt(f)
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "circuit": super::call::to_json(&self.circuit)?,
            "evaluation": super::call::to_json(&self.evaluation)?,
            "dot": self.circuit.to_dot(),
        }))
    }

    fn figure(&self) -> String {
        let (own, all) = (self.circuit.edges.len(), self.circuit.graph.edges());
        let remark = match &self.evaluation {
            None => format!("{own} of {all} edges"),
            Some(e) => format!(
                "{own} of {all} edges; {}: faithfulness {:.2}, completeness {:.2}",
                e.measured, e.faithfulness, e.completeness
            ),
        };
        draw(&self.circuit, "Circuit", &remark)
    }
}

/// A circuit as SVG: the embedding at the bottom, a rank of heads and one of MLPs for each layer, the logits on top.
pub(super) fn draw(circuit: &Circuit, title: &str, remark: &str) -> String {
    let rank = |sender: Sender| match sender {
        Sender::Embed => 0,
        Sender::Head { layer, .. } => 2 * layer + 1,
        Sender::Mlp { layer } => 2 * layer + 2,
    };
    let mut nodes: Vec<GraphNode> =
        circuit.nodes.iter().map(|s| GraphNode { label: s.to_string(), rank: rank(*s) }).collect();
    nodes.push(GraphNode { label: "logits".to_owned(), rank: usize::MAX });
    let numbers: HashMap<String, usize> = nodes.iter().enumerate().map(|(i, n)| (n.label.clone(), i)).collect();
    let mut edges = Vec::new();
    for e in &circuit.edges {
        let kind = match e.to {
            Receiver::Query { .. } => 1,
            Receiver::Key { .. } => 2,
            Receiver::Value { .. } => 3,
            Receiver::Mlp { .. } | Receiver::Logits => 0,
        };
        for end in circuit.ends(e.to) {
            if let (Some(from), Some(to)) = (numbers.get(&e.from.to_string()), numbers.get(&end)) {
                let title = format!("{} → {}: {:.4}", e.from, e.to, e.score);
                edges.push(GraphEdge { from: *from, to: *to, weight: e.score, kind, title });
            }
        }
    }
    graph(&nodes, &edges, &["MLP, logits", "query", "key", "value"], title, remark)
}
