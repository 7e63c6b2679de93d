//! How much of a model a circuit is. Faithfulness: how far the metric comes back when only the circuit's edges are whole.
//! Completeness: how far it goes when they alone are cut (the two as in Marks et al. 2024, "Sparse Feature Circuits").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ablation::Ablation;
use super::circuit::Circuit;
use super::cut::{Cuts, Places, run_cut};
use super::setting::Setting;
use super::stream::Messages;
use crate::analysis::attribution::Pair;
use crate::core::model::{Model, Prompts};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::Metric;

/// Options of [`evaluate_circuit`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateOptions {
    /// What cut edges carry.
    pub ablation: Ablation,
    /// What every run is under.
    #[serde(skip)]
    pub runs: TraceOptions,
}

/// A circuit measured, means over the prompts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CircuitEvaluation {
    /// What was measured.
    pub measured: String,
    /// What cut edges carried.
    pub ablation: Ablation,
    /// The metric of the whole model.
    pub full: f32,
    /// Of the circuit: every other edge cut.
    pub circuit: f32,
    /// Of the rest: the circuit's edges cut.
    pub complement: f32,
    /// With every edge cut.
    pub empty: f32,
    /// `(circuit - empty) / (full - empty)`: 1 when the circuit does all the model does.
    pub faithfulness: f32,
    /// `1 - (complement - empty) / (full - empty)`: 1 when the rest does nothing.
    pub completeness: f32,
    /// Edges of the circuit.
    pub edges: usize,
    /// Edges of the model.
    pub total_edges: usize,
}

/// Measures a circuit on clean prompts, all four runs as rows of one batch. The corrupt prompts give what cut edges carry;
/// for zero ablation they may be the clean ones.
///
/// Errors: a circuit of another graph, pairs of unequal lengths, a metric that cutting everything does not move.
pub fn evaluate_circuit(
    model: &Model,
    circuit: &Circuit,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    metric: &Metric,
    options: &EvaluateOptions,
) -> Result<CircuitEvaluation> {
    let pair = Pair::new(model, clean.into(), corrupt.into())?;
    let setting = Setting::new(model, pair.clean, &options.runs, metric)?;
    if setting.graph != circuit.graph {
        bail!(InvalidArgument, "the circuit is of another model: layers, heads or groups differ");
    }
    let circuit = circuit.clone().checked()?;
    let corrupt = Messages::of(&model.trace_batch(pair.corrupt.clone(), &options.runs)?, &setting.graph)?;
    corrupt.eval()?;
    let instead = options.ablation.of(&corrupt, &pair.corrupt)?;
    let places = Places::of(&setting.graph);
    let (mut own, mut rest) = (Cuts::new(&setting.graph, true), Cuts::new(&setting.graph, false));
    for e in &circuit.edges {
        let (s, r) = (places.sender(e.from), places.receiver(e.to));
        own.set(s, r, false);
        rest.set(s, r, true);
    }
    let cuts = [Cuts::new(&setting.graph, false), own, rest, Cuts::new(&setting.graph, true)];
    let values = setting.measure(&run_cut(&setting, &instead, &cuts, 0)?)?;
    let [full, kept, complement, empty] = values[..] else { bail!(Backend, "four runs gave {} values", values.len()) };
    let span = full - empty;
    if span.abs() <= 1e-6 * full.abs().max(1.0) {
        bail!(
            InvalidArgument,
            "cutting every edge leaves the {metric} at {empty:.4} ({full:.4} before): there is nothing to be faithful to; \
             choose prompts or another ablation that make a difference"
        );
    }
    Ok(CircuitEvaluation {
        measured: metric.to_string(),
        ablation: options.ablation,
        full,
        circuit: kept,
        complement,
        empty,
        faithfulness: (kept - empty) / span,
        completeness: 1.0 - (complement - empty) / span,
        edges: circuit.edges.len(),
        total_edges: setting.graph.edges(),
    })
}

impl fmt::Display for CircuitEvaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: model {:.4}, circuit {:.4}, the rest {:.4}, nothing {:.4}",
            self.measured, self.full, self.circuit, self.complement, self.empty
        )?;
        writeln!(
            f,
            "faithfulness {:.3}, completeness {:.3}, {} of {} edges",
            self.faithfulness, self.completeness, self.edges, self.total_edges
        )
    }
}
