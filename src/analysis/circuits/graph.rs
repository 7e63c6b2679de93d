//! The graph that circuits are parts of: who adds to the residual stream, who reads it, and which way is forwards.
//!
//! Every head and every MLP adds to the stream what later ones read; so does the embedding. A head reads it three times:
//! for its query alone, and for the keys and values that it shares with its group (Ainslie et al. 2023).

use serde::{Deserialize, Serialize};

use crate::core::model::Model;
use crate::core::trace::Trace;
use crate::error::{Error, Result, bail, err};

/// Who adds to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// What the first layer is given: token and position embeddings, norms and multipliers on them included.
    Embed,
    /// A query head: "a3.h2".
    Head {
        /// Its layer.
        layer: usize,
        /// Its number in the layer.
        head: usize,
    },
    /// An MLP: "m3".
    Mlp {
        /// Its layer.
        layer: usize,
    },
}

/// Who reads the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Receiver {
    /// A head's query: "a3.h2.q".
    Query {
        /// Its layer.
        layer: usize,
        /// The head.
        head: usize,
    },
    /// The keys that a group of heads shares: "a3.g0.k".
    Key {
        /// Its layer.
        layer: usize,
        /// The group: the key-value head's number.
        group: usize,
    },
    /// The values that a group of heads shares: "a3.g0.v".
    Value {
        /// Its layer.
        layer: usize,
        /// The group: the key-value head's number.
        group: usize,
    },
    /// An MLP: "m3".
    Mlp {
        /// Its layer.
        layer: usize,
    },
    /// The final norm and the head.
    Logits,
}

/// The senders and receivers of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerShape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads: groups of as many query heads each.
    pub groups: usize,
    /// Whether there is an MLP.
    pub mlp: bool,
    /// Whether the MLP reads what this layer's attention added (it does not where both run beside each other).
    pub mlp_sees_attention: bool,
}

/// A model as a graph: the same for every prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    /// Layer by layer.
    pub layers: Vec<LayerShape>,
}

/// A part of the stream that several receivers read at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Query,
    Key,
    Value,
    Mlp,
    Logits,
}

impl Port {
    pub const OF_ATTENTION: [Port; 3] = [Port::Query, Port::Key, Port::Value];

    /// The site at which what the receivers make of the stream stands.
    pub fn site(self, layer: usize) -> String {
        match self {
            Port::Query => format!("layers.{layer}.attn.q"),
            Port::Key => format!("layers.{layer}.attn.k"),
            Port::Value => format!("layers.{layer}.attn.v"),
            Port::Mlp => format!("layers.{layer}.mlp.input"),
            Port::Logits => "layers.-1.output".to_owned(),
        }
    }
}

impl Graph {
    /// Reads a model's graph off a trace of it; nothing is computed.
    ///
    /// Errors: a layer without attention heads, values without a name, a description that does not prove its names.
    pub fn of(trace: &Trace) -> Result<Self> {
        let model = trace.model();
        let layers = (0..model.num_layers()).map(|i| layer_shape(&model, trace, i)).collect::<Result<Vec<_>>>()?;
        if layers.is_empty() {
            bail!(Unsupported, "the model's description names no layers");
        }
        Ok(Self { layers })
    }

    /// Senders in the order in which they run.
    pub fn senders(&self) -> Vec<Sender> {
        let mut all = vec![Sender::Embed];
        for (layer, shape) in self.layers.iter().enumerate() {
            all.extend((0..shape.heads).map(|head| Sender::Head { layer, head }));
            all.extend(shape.mlp.then_some(Sender::Mlp { layer }));
        }
        all
    }

    /// Receivers in the order in which they run.
    pub fn receivers(&self) -> Vec<Receiver> {
        let mut all = Vec::new();
        for (layer, shape) in self.layers.iter().enumerate() {
            all.extend((0..shape.heads).map(|head| Receiver::Query { layer, head }));
            all.extend((0..shape.groups).map(|group| Receiver::Key { layer, group }));
            all.extend((0..shape.groups).map(|group| Receiver::Value { layer, group }));
            all.extend(shape.mlp.then_some(Receiver::Mlp { layer }));
        }
        all.push(Receiver::Logits);
        all
    }

    /// How many of the senders, from the first, a receiver sees.
    pub fn seen(&self, receiver: Receiver) -> usize {
        let before =
            |layer: usize| 1 + self.layers[..layer].iter().map(|l| l.heads + usize::from(l.mlp)).sum::<usize>();
        match receiver {
            Receiver::Query { layer, .. } | Receiver::Key { layer, .. } | Receiver::Value { layer, .. } => {
                before(layer)
            }
            Receiver::Mlp { layer } => {
                let own = &self.layers[layer];
                before(layer) + if own.mlp_sees_attention { own.heads } else { 0 }
            }
            Receiver::Logits => before(self.layers.len()),
        }
    }

    /// Number of edges: from every sender to every receiver after it.
    pub fn edges(&self) -> usize {
        self.receivers().into_iter().map(|r| self.seen(r)).sum()
    }

    /// The receivers at a port of a layer.
    pub(crate) fn at(&self, port: Port, layer: usize) -> Vec<Receiver> {
        let shape = self.layers.get(layer);
        let (heads, groups, mlp) = shape.map_or((0, 0, false), |l| (l.heads, l.groups, l.mlp));
        match port {
            Port::Query => (0..heads).map(|head| Receiver::Query { layer, head }).collect(),
            Port::Key => (0..groups).map(|group| Receiver::Key { layer, group }).collect(),
            Port::Value => (0..groups).map(|group| Receiver::Value { layer, group }).collect(),
            Port::Mlp => mlp.then_some(Receiver::Mlp { layer }).into_iter().collect(),
            Port::Logits => vec![Receiver::Logits],
        }
    }

    /// The site of the stream that a port reads.
    pub(crate) fn stream(&self, port: Port, layer: usize) -> String {
        match port {
            Port::Mlp if self.layers[layer].mlp_sees_attention => format!("layers.{layer}.resid_mid"),
            Port::Logits => port.site(layer),
            _ => format!("layers.{layer}.resid_pre"),
        }
    }

    /// The heads that a receiver belongs to: one for a query, a group for keys and values.
    pub fn heads_of(&self, receiver: Receiver) -> Vec<Sender> {
        match receiver {
            Receiver::Query { layer, head } => vec![Sender::Head { layer, head }],
            Receiver::Key { layer, group } | Receiver::Value { layer, group } => {
                let shape = &self.layers[layer];
                let size = shape.heads / shape.groups.max(1);
                (group * size..(group + 1) * size).map(|head| Sender::Head { layer, head }).collect()
            }
            Receiver::Mlp { layer } => vec![Sender::Mlp { layer }],
            Receiver::Logits => Vec::new(),
        }
    }

    /// Whether both ends are in the graph, and one after the other; an error that says what is wrong.
    pub fn check(&self, from: Sender, to: Receiver) -> Result<()> {
        let Some(at) = self.senders().iter().position(|s| *s == from) else {
            bail!(InvalidArgument, "the model has no {from}: {}", self.extent());
        };
        if !self.receivers().contains(&to) {
            bail!(InvalidArgument, "the model has no {to}: {}", self.extent());
        }
        if at >= self.seen(to) {
            bail!(InvalidArgument, "no edge from {from} to {to}: {to} does not see what {from} adds");
        }
        Ok(())
    }

    fn extent(&self) -> String {
        let first = &self.layers[0];
        format!("it has {} layers, of {} heads in {} groups", self.layers.len(), first.heads, first.groups)
    }
}

fn layer_shape(model: &Model, trace: &Trace, i: usize) -> Result<LayerShape> {
    let name = |value: &str| format!("layers.{i}.{value}");
    for value in ["resid_pre", "attn.q", "attn.k", "attn.v", "attn.result", "attn.output", "attn_add"] {
        let missing = |e: Error| err!(Unsupported, "layer {i} cannot be part of a graph of heads: {}", e.message());
        let site = model.sites().resolve(&name(value)).map_err(missing)?;
        if value.starts_with("attn.") && value != "attn.output" && model.capabilities()[site].verified.is_none() {
            bail!(
                Unsupported,
                "'{}' is what the description says and nothing proves it, so edges into it would be guesses",
                name(value)
            );
        }
    }
    for value in ["attn.q", "attn.k", "attn.v"] {
        if !model.depends(&name("resid_pre"), &name(value))? {
            bail!(
                Unsupported,
                "layer {i} cannot be part of a graph of heads: its {value} is not made of its own stream, but an earlier layer's"
            );
        }
    }
    // Shapes are known without computing.
    let plain = trace.fork()?;
    let (q, k, v) = (plain.get(&name("attn.q"))?, plain.get(&name("attn.k"))?, plain.get(&name("attn.v"))?);
    if [&q, &k, &v].iter().any(|x| x.ndim() != 4) || k.dim(1) != v.dim(1) || !q.dim(1).is_multiple_of(k.dim(1).max(1)) {
        bail!(Unsupported, "layer {i}: queries {:?}, keys {:?}, values {:?}", q.shape(), k.shape(), v.shape());
    }
    let mlp = model.sites().resolve(&name("mlp_add")).is_ok() && model.sites().resolve(&name("mlp.input")).is_ok();
    let sees = |from: &str| {
        model.sites().resolve(&name(from)).is_ok() && model.depends(&name(from), &name("mlp.input")).unwrap_or(false)
    };
    let mlp_sees_attention = mlp && sees("resid_mid");
    if mlp && !mlp_sees_attention && model.depends(&name("attn.output"), &name("mlp.input"))? {
        bail!(Unsupported, "layer {i}: its MLP sees attention, but nothing between them is named resid_mid");
    }
    Ok(LayerShape { heads: q.dim(1), groups: k.dim(1), mlp, mlp_sees_attention })
}
