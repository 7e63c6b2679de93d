//! A circuit: some of a model's edges, with their scores. Pruned, written down and read back, drawn for Graphviz.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::graph::{Graph, Receiver, Sender};
use crate::error::{Result, bail, err};

/// An edge: who adds to the stream, who reads it there, and what the connection is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Its start.
    pub from: Sender,
    /// Its end.
    pub to: Receiver,
    /// What it is worth, in units of the metric that found it.
    #[serde(default)]
    pub score: f32,
}

/// Some of a model's edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circuit {
    /// The model's graph.
    pub graph: Graph,
    /// The senders with an edge, in the order in which they run; worked out from the edges.
    #[serde(default)]
    pub nodes: Vec<Sender>,
    /// The edges.
    pub edges: Vec<Edge>,
}

impl Circuit {
    /// Edges of a graph.
    pub fn new(graph: Graph, edges: Vec<Edge>) -> Self {
        let mut circuit = Self { graph, nodes: Vec::new(), edges };
        circuit.list_nodes();
        circuit
    }

    /// From JSON, as a circuit is written: `{"graph": .., "edges": [{"from": "a0.h1", "to": "a1.g0.k", "score": ..}]}`.
    ///
    /// Errors: names that are none, edges that the graph does not have or that come twice, scores that are not numbers.
    pub fn from_json(text: &str) -> Result<Self> {
        let read: Self = serde_json::from_str(text).map_err(|e| err!(InvalidArgument, "a circuit: {e}"))?;
        read.checked()
    }

    /// As JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| err!(InvalidArgument, "a circuit as JSON: {e}"))
    }

    /// The same, if its edges are edges of its graph; nodes listed anew.
    pub fn checked(mut self) -> Result<Self> {
        if self.graph.layers.is_empty() || self.graph.layers.iter().any(|l| l.groups == 0 || l.heads % l.groups != 0) {
            bail!(InvalidArgument, "a circuit's graph needs layers of heads in equal groups");
        }
        let (senders, receivers) = (self.graph.senders(), self.graph.receivers());
        let senders: HashSet<_> = senders.into_iter().collect();
        let receivers: HashSet<_> = receivers.into_iter().collect();
        let mut seen = HashSet::new();
        for e in &self.edges {
            let known = senders.contains(&e.from) && receivers.contains(&e.to);
            if !known || !e.score.is_finite() || !seen.insert((e.from, e.to)) {
                self.graph.check(e.from, e.to)?;
                bail!(
                    InvalidArgument,
                    "the edge from {} to {} comes twice, or its score {} is no number",
                    e.from,
                    e.to,
                    e.score
                );
            }
            if matches!(e.to, Receiver::Logits) {
                continue;
            }
            if layer_of(e.from).is_some_and(|from| from >= layer_of_receiver(e.to)) {
                self.graph.check(e.from, e.to)?;
            }
        }
        self.list_nodes();
        Ok(self)
    }

    fn list_nodes(&mut self) {
        let mut nodes: HashSet<Sender> = self.edges.iter().map(|e| e.from).collect();
        // A query, or an MLP, is a node's own; keys and values are a group's, whose heads count when they send.
        for e in &self.edges {
            if let [own] = self.graph.heads_of(e.to).as_slice() {
                nodes.insert(*own);
            }
        }
        let mut nodes: Vec<Sender> = nodes.into_iter().collect();
        nodes.sort_by_key(|s| order(*s));
        self.nodes = nodes;
    }

    /// The `n` edges of the largest scores by size, less those that lead nowhere.
    pub fn largest(&self, n: usize) -> Self {
        let mut edges = self.edges.clone();
        edges.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
        edges.truncate(n);
        Self::new(self.graph.clone(), edges).connected()
    }

    /// The edges whose scores are at least `threshold` by size, less those that lead nowhere.
    pub fn above(&self, threshold: f32) -> Self {
        let edges = self.edges.iter().filter(|e| e.score.abs() >= threshold).cloned().collect();
        Self::new(self.graph.clone(), edges).connected()
    }

    /// Without edges that no way from the embedding reaches, or from which none leads to the logits.
    pub fn connected(&self) -> Self {
        let mut edges = self.edges.clone();
        loop {
            let fed: HashSet<Sender> = edges.iter().flat_map(|e| self.graph.heads_of(e.to)).collect();
            let feeding: HashSet<Sender> = edges.iter().map(|e| e.from).collect();
            let before = edges.len();
            edges.retain(|e| {
                let begins = e.from == Sender::Embed || fed.contains(&e.from);
                let goes_on = e.to == Receiver::Logits || self.graph.heads_of(e.to).iter().any(|h| feeding.contains(h));
                begins && goes_on
            });
            if edges.len() == before {
                return Self::new(self.graph.clone(), edges);
            }
        }
    }

    /// The share of the model's edges that it has.
    pub fn share(&self) -> f32 {
        self.edges.len() as f32 / self.graph.edges().max(1) as f32
    }

    /// For Graphviz: queries blue, keys orange, values green, all else grey; dashed below zero, wide where much is at stake.
    pub fn to_dot(&self) -> String {
        use std::fmt::Write;
        let mut text = String::from("digraph circuit {\n  rankdir = BT;\n  node [shape = box, style = rounded];\n");
        let most = self.edges.iter().fold(0.0_f32, |m, e| m.max(e.score.abs()));
        for node in &self.nodes {
            let _ = writeln!(text, "  \"{node}\";");
        }
        for e in &self.edges {
            let (colour, kind) = match e.to {
                Receiver::Query { .. } => ("#2563eb", "q"),
                Receiver::Key { .. } => ("#d97706", "k"),
                Receiver::Value { .. } => ("#15803d", "v"),
                _ => ("#6b7385", ""),
            };
            let width = if most > 0.0 { 0.5 + 3.5 * e.score.abs() / most } else { 1.0 };
            let style = if e.score < 0.0 { "dashed" } else { "solid" };
            for end in self.ends(e.to) {
                let _ = writeln!(
                    text,
                    "  \"{}\" -> \"{end}\" [label = \"{kind}\", color = \"{colour}\", penwidth = {width:.2}, style = {style}];",
                    e.from
                );
            }
        }
        text.push_str("}\n");
        text
    }

    /// What an edge is drawn to: the heads of the circuit that the receiver belongs to, an MLP, or the logits.
    pub fn ends(&self, to: Receiver) -> Vec<String> {
        if to == Receiver::Logits {
            return vec!["logits".to_owned()];
        }
        self.graph.heads_of(to).into_iter().filter(|h| self.nodes.contains(h)).map(|h| h.to_string()).collect()
    }
}

fn layer_of(sender: Sender) -> Option<usize> {
    match sender {
        Sender::Embed => None,
        Sender::Head { layer, .. } | Sender::Mlp { layer } => Some(layer),
    }
}

fn layer_of_receiver(receiver: Receiver) -> usize {
    match receiver {
        Receiver::Query { layer, .. }
        | Receiver::Key { layer, .. }
        | Receiver::Value { layer, .. }
        | Receiver::Mlp { layer } => layer,
        Receiver::Logits => usize::MAX,
    }
}

/// The order in which senders run.
pub(crate) fn order(sender: Sender) -> (usize, usize) {
    match sender {
        Sender::Embed => (0, 0),
        Sender::Head { layer, head } => (layer + 1, head),
        Sender::Mlp { layer } => (layer + 1, usize::MAX),
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.4}  {} -> {}", self.score, self.from, self.to)
    }
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, all) = (self.edges.len(), self.graph.edges());
        writeln!(f, "{own} of {all} edges ({:.1} %), {} nodes", self.share() * 100.0, self.nodes.len())?;
        self.edges.iter().take(40).try_for_each(|e| writeln!(f, "{e}"))?;
        if own > 40 { writeln!(f, "  … and {} more", own - 40) } else { Ok(()) }
    }
}
