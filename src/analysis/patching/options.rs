//! What is patched, where, and which way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::intervention::Intervention;

/// What is put from one run into the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The residual stream before a layer.
    #[default]
    ResidPre,
    /// The residual stream between attention and MLP.
    ResidMid,
    /// The residual stream after a layer.
    ResidPost,
    /// What attention gives.
    Attn,
    /// What the MLP gives.
    Mlp,
    /// Queries, by head.
    Q,
    /// Keys, by key-value head.
    K,
    /// Values, by key-value head.
    V,
    /// What each head reads, before the output projection.
    Z,
    /// Attention patterns, by head; a position is a query's.
    Pattern,
    /// Neurons: what the MLP's last projection takes.
    Neuron,
}

impl Component {
    /// Its site in a layer.
    pub fn site(self, layer: usize) -> String {
        let own = match self {
            Component::ResidPre => "resid_pre",
            Component::ResidMid => "resid_mid",
            Component::ResidPost => "resid_post",
            Component::Attn => "attn",
            Component::Mlp => "mlp",
            Component::Q => "attn.q",
            Component::K => "attn.k",
            Component::V => "attn.v",
            Component::Z => "attn.z",
            Component::Pattern => "attn.pattern",
            Component::Neuron => "mlp.act",
        };
        format!("layers.{layer}.{own}")
    }

    /// Whether it has heads.
    pub fn has_heads(self) -> bool {
        matches!(self, Component::Q | Component::K | Component::V | Component::Z | Component::Pattern)
    }

    /// The axes of a grid of it when nothing is said.
    pub(super) fn axes(self) -> Vec<PatchingAxis> {
        match self {
            Component::Neuron => vec![PatchingAxis::Layer, PatchingAxis::Neuron],
            _ if self.has_heads() => vec![PatchingAxis::Layer, PatchingAxis::Head],
            _ => vec![PatchingAxis::Layer, PatchingAxis::Position],
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let site = self.site(0);
        f.write_str(match self {
            Component::Neuron => "neuron",
            _ => site.rsplit('.').next().unwrap_or(&site),
        })
    }
}

/// Which run is put into which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Clean values into the corrupted run: what suffices to bring the answer back.
    #[default]
    Denoising,
    /// Corrupted values into the clean run: what is needed for the answer.
    Noising,
}

/// An axis of a patching grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchingAxis {
    /// One layer at a time. Every grid has it.
    Layer,
    /// One head at a time; without it all chosen heads at once.
    Head,
    /// One neuron at a time; without it all chosen neurons at once.
    Neuron,
    /// One position at a time; without it all chosen positions at once.
    Position,
}

/// Which positions of prompts of different lengths belong together: pairs (clean position, corrupted position), negative
/// from the prompt's own end. What is in no pair is not patched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Align {
    /// The same for every pair of prompts.
    Same(Vec<(i64, i64)>),
    /// One list for each pair of prompts.
    ByPair(Vec<Vec<(i64, i64)>>),
}

/// How runs share what they have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// The staircase where the tape allows it, forks elsewhere.
    #[default]
    Auto,
    /// Rows join a batch at their own layer and run from their own position on, after the keys and values of the
    /// unpatched run. An error where the tape does not allow it.
    Staircase,
    /// Forks of the unpatched run, as rows, from the patched layer on.
    Forks,
}

/// Options of [`activation_patching`](super::activation_patching).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatchingOptions {
    /// What is patched.
    pub component: Component,
    /// Axes of the grid; nothing: layer and position, for heads layer and head, for neurons layer and neuron.
    pub axes: Option<Vec<PatchingAxis>>,
    /// Which way.
    pub direction: Direction,
    /// Layers (negative from the last); nothing: all that have the component.
    pub layers: Option<Vec<i64>>,
    /// Heads (negative from the last), of keys and values their own; nothing: all.
    pub heads: Option<Vec<i64>>,
    /// Neurons (negative from the last); nothing: all.
    pub neurons: Option<Vec<i64>>,
    /// Positions in the run that is patched (negative from its own end); nothing: all.
    pub positions: Option<Vec<i64>>,
    /// Which positions belong together; needed where a pair's prompts have different numbers of tokens.
    pub align: Option<Align>,
    /// How runs share what they have in common.
    pub sharing: Sharing,
    /// Tokens that run at once at most: bounds memory.
    pub tokens_at_once: usize,
    /// What all runs are under.
    #[serde(skip)]
    pub interventions: Vec<(String, Intervention)>,
}

impl Default for PatchingOptions {
    fn default() -> Self {
        Self {
            component: Component::default(),
            axes: None,
            direction: Direction::default(),
            layers: None,
            heads: None,
            neurons: None,
            positions: None,
            align: None,
            sharing: Sharing::default(),
            tokens_at_once: 4096,
            interventions: Vec::new(),
        }
    }
}

impl PatchingOptions {
    /// Patching one component, all else by default.
    pub fn of(component: Component) -> Self {
        Self { component, ..Self::default() }
    }

    /// With these axes.
    pub fn over(mut self, axes: impl Into<Vec<PatchingAxis>>) -> Self {
        self.axes = Some(axes.into());
        self
    }
}
