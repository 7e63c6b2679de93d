//! What a path ends in.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cells::numbered;
use super::place::axis;
use crate::core::arch::tape::Slot;
use crate::core::model::{Model, SiteId};
use crate::core::tensor::{self, Array};
use crate::core::trace::Trace;
use crate::error::{Result, bail};

/// What a part takes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiverInput {
    /// A head's queries.
    Q,
    /// A key-value head's keys.
    K,
    /// A key-value head's values.
    V,
    /// What an MLP takes.
    Mlp,
    /// The logits.
    #[default]
    Logits,
}

/// One end of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// What it takes in.
    pub input: ReceiverInput,
    /// Its layer (negative from the last); none for the logits.
    #[serde(default)]
    pub layer: Option<i64>,
    /// Its head, of keys and values a key-value head (negative from the last); nothing: all heads of the layer.
    #[serde(default)]
    pub head: Option<i64>,
}

impl Receiver {
    /// The logits.
    pub fn logits() -> Self {
        Self::default()
    }

    /// An input of a head.
    pub fn head(input: ReceiverInput, layer: i64, head: i64) -> Self {
        Self { input, layer: Some(layer), head: Some(head) }
    }

    /// What the MLP of a layer takes.
    pub fn mlp(layer: i64) -> Self {
        Self { input: ReceiverInput::Mlp, layer: Some(layer), head: None }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = self.layer.unwrap_or_default();
        let value = match self.input {
            ReceiverInput::Logits => return f.write_str("logits"),
            ReceiverInput::Mlp => return write!(f, "mlp.input of layer {layer}"),
            ReceiverInput::Q => "q",
            ReceiverInput::K => "k",
            ReceiverInput::V => "v",
        };
        match self.head {
            Some(head) => write!(f, "{value} of layer {layer}, head {head}"),
            None => write!(f, "{value} of layer {layer}"),
        }
    }
}

/// A site, and those of its heads that are meant; none: the whole value.
type Heard = (SiteId, Option<Vec<i64>>);

/// Receivers as sites: in execution order, with the heads that are meant.
pub(super) struct Hearing {
    /// By layer and site; no heads: the whole value. Empty: the logits.
    sites: BTreeMap<(usize, ReceiverInput), Heard>,
}

impl Hearing {
    /// Checks them. Errors: none, the logits together with others, a layer that is not there, a head where there are none.
    pub fn new(model: &Model, receivers: &[Receiver]) -> Result<Self> {
        let mut sites = BTreeMap::new();
        if receivers.is_empty() {
            bail!(InvalidArgument, "no receivers: give the logits, or inputs of heads and MLPs");
        }
        for receiver in receivers {
            let value = match receiver.input {
                ReceiverInput::Logits if receivers.len() > 1 => {
                    bail!(InvalidArgument, "the logits receive alone: they come after every other receiver")
                }
                ReceiverInput::Logits if receiver.layer.is_some() || receiver.head.is_some() => {
                    bail!(InvalidArgument, "the logits have neither layer nor head")
                }
                ReceiverInput::Logits => continue,
                ReceiverInput::Mlp if receiver.head.is_some() => {
                    bail!(InvalidArgument, "{receiver}: an MLP has no heads")
                }
                ReceiverInput::Mlp => "mlp.input",
                ReceiverInput::Q => "attn.q",
                ReceiverInput::K => "attn.k",
                ReceiverInput::V => "attn.v",
            };
            let Some(layer) = receiver.layer else { bail!(InvalidArgument, "a receiver '{value}' needs a `layer`") };
            let layer = numbered(&[layer], model.num_layers(), "layer").map_err(|e| e.context("a receiver"))?[0];
            let site = model.sites().resolve(&format!("layers.{layer}.{value}"))?;
            let (_, heads) = sites.entry((layer, receiver.input)).or_insert((site, Some(Vec::new())));
            *heads = heads.take().zip(receiver.head).map(|(mut all, head)| {
                all.push(head);
                all
            });
        }
        Ok(Self { sites })
    }

    /// Whether the logits receive.
    pub fn is_logits(&self) -> bool {
        self.sites.is_empty()
    }

    pub fn first_layer(&self) -> Option<usize> {
        self.sites.keys().next().map(|(layer, _)| *layer)
    }

    pub fn last_layer(&self) -> Option<usize> {
        self.sites.keys().next_back().map(|(layer, _)| *layer)
    }

    /// Whether anything of a sender reaches a receiver but through `barred`.
    pub fn hears(&self, model: &Model, sender: Option<SiteId>, barred: &[Slot]) -> bool {
        let (inner, Some(sender)) = (model.inner(), sender) else { return false };
        let from = inner.slot(sender);
        match self.is_logits() {
            true => inner.reaches_around(from, inner.program.output, barred),
            false => self.sites.values().any(|(site, _)| inner.reaches_around(from, inner.slot(*site), barred)),
        }
    }

    /// Puts what the receivers take in in one run into another.
    pub fn pass(&self, model: &Model, from: &Trace, to: &Trace) -> Result<()> {
        for (site, heads) in self.sites.values() {
            let new = from.read(*site)?;
            let Some(heads) = heads else {
                to.write(*site, &new)?;
                continue;
            };
            let name = model.inner().slot_name(model.inner().slot(*site));
            let Some(at) = axis(model.inner().layout(*site), "head") else {
                bail!(Unsupported, "'{name}' has no head axis (shape {:?})", new.shape());
            };
            let n = new.dim(at as i32);
            let chosen = numbered(heads, n, "head").map_err(|e| e.context(name))?;
            let marks: Vec<bool> = (0..n).map(|h| chosen.contains(&h)).collect();
            let mut dims = vec![1; new.ndim()];
            dims[at] = n;
            let old: Array = to.read(*site)?;
            to.write(*site, &tensor::select(&Array::from_slice(&marks, &dims)?, &new, &old)?)?;
        }
        Ok(())
    }
}
