//! Which value of each layer a lens reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::model::Model;
use crate::error::{Result, bail};

/// A value that every layer has, in the space of the residual stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The stream as the layer finds it.
    ResidPre,
    /// The stream between attention and MLP.
    ResidMid,
    /// The stream as the layer leaves it.
    #[default]
    #[serde(alias = "output")]
    ResidPost,
    /// What attention adds to the stream, alone.
    #[serde(alias = "attn_add")]
    Attn,
    /// What the MLP adds to the stream, alone.
    #[serde(alias = "mlp_add")]
    Mlp,
}

impl Component {
    /// The name of its site in a layer, without the layer.
    fn name(self) -> &'static str {
        match self {
            Component::ResidPre => "resid_pre",
            Component::ResidMid => "resid_mid",
            Component::ResidPost => "resid_post",
            Component::Attn => "attn_add",
            Component::Mlp => "mlp_add",
        }
    }

    /// Its site in a layer.
    pub fn site(self, layer: usize) -> String {
        format!("layers.{layer}.{}", self.name())
    }

    /// Whether it is the stream itself, before which stands the embedding.
    pub(super) fn follows_the_embedding(self) -> bool {
        matches!(self, Component::ResidMid | Component::ResidPost)
    }

    /// The layers that are asked for (negative: from the end), or all that have it.
    pub(super) fn layers(self, model: &Model, asked: Option<&[i64]>) -> Result<Vec<usize>> {
        let n = model.num_layers();
        let there = |layer: &usize| model.sites().resolve(&self.site(*layer)).is_ok();
        let Some(asked) = asked else {
            let all: Vec<usize> = (0..n).filter(there).collect();
            if all.is_empty() {
                bail!(Unsupported, "no layer of this model has a '{}': see `mlxterp sites`", self.name());
            }
            return Ok(all);
        };
        let layers = asked.iter().map(|layer| super::layer(*layer, n)).collect::<Result<Vec<_>>>()?;
        match layers.iter().find(|layer| !there(layer)) {
            Some(layer) => bail!(Unsupported, "layer {layer} has no '{}': see `mlxterp sites`", self.name()),
            None if layers.is_empty() => bail!(InvalidArgument, "no layers: leave them out for all of them"),
            None => Ok(layers),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
