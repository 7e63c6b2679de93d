//! What every sender adds to the residual stream, and what it would add in another run.

use super::graph::{Graph, LayerShape};
use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::Trace;
use crate::error::{Result, bail};

/// What the senders of one layer add, float32.
#[derive(Clone)]
pub(crate) struct LayerMessages {
    /// Each head's result before the sum, `[row, head, position, feature]`.
    pub results: Array,
    /// The attention's output, of which the results are the terms, `[row, position, feature]`.
    pub output: Array,
    /// What the attention adds: the output, after a norm or a multiplier where the model has one.
    pub added: Array,
    /// What the MLP adds.
    pub mlp: Option<Array>,
}

/// What all senders add in one run.
#[derive(Clone)]
pub(crate) struct Messages {
    pub embed: Array,
    pub layers: Vec<LayerMessages>,
}

fn read(trace: &Trace, site: &str) -> Result<Array> {
    tensor::cast(&trace.get(site)?, Dtype::Float32)
}

impl LayerMessages {
    /// Reads what the attention of a layer adds.
    pub fn attention(trace: &Trace, i: usize) -> Result<Self> {
        Ok(Self {
            results: read(trace, &format!("layers.{i}.attn.result"))?,
            output: read(trace, &format!("layers.{i}.attn.output"))?,
            added: read(trace, &format!("layers.{i}.attn_add"))?,
            mlp: None,
        })
    }

    /// Reads what the MLP of a layer adds.
    pub fn mlp(trace: &Trace, i: usize) -> Result<Array> {
        read(trace, &format!("layers.{i}.mlp_add"))
    }

    fn each(&self, f: &impl Fn(&Array) -> Result<Array>) -> Result<Self> {
        Ok(Self {
            results: f(&self.results)?,
            output: f(&self.output)?,
            added: f(&self.added)?,
            mlp: self.mlp.as_ref().map(f).transpose()?,
        })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.results, &self.output, &self.added].into_iter().chain(&self.mlp)
    }
}

impl Messages {
    /// Reads them off a trace, lazily.
    pub fn of(trace: &Trace, graph: &Graph) -> Result<Self> {
        let layer = |(i, shape): (usize, &LayerShape)| {
            let mut layer = LayerMessages::attention(trace, i)?;
            if shape.mlp {
                layer.mlp = Some(LayerMessages::mlp(trace, i)?);
            }
            Ok(layer)
        };
        let embed = read(trace, "layers.0.resid_pre")?;
        Ok(Self { embed, layers: graph.layers.iter().enumerate().map(layer).collect::<Result<_>>()? })
    }

    /// Every array of them changed.
    pub fn each(&self, f: impl Fn(&Array) -> Result<Array>) -> Result<Self> {
        let layers = self.layers.iter().map(|l| l.each(&f)).collect::<Result<_>>()?;
        Ok(Self { embed: f(&self.embed)?, layers })
    }

    /// Computes them.
    pub fn eval(&self) -> Result<()> {
        Array::eval_all(self.layers.iter().flat_map(LayerMessages::arrays).chain([&self.embed]))
    }

    /// Refuses a model whose residual stream is anything but the sum of what its senders add.
    pub fn check_sum(&self, last: &Array) -> Result<()> {
        let mut sum = self.embed.clone();
        for layer in &self.layers {
            sum = tensor::add(&sum, &layer.added)?;
            if let Some(mlp) = &layer.mlp {
                sum = tensor::add(&sum, mlp)?;
            }
        }
        let half = last.dtype() != Dtype::Float32;
        let last = tensor::cast(last, Dtype::Float32)?;
        let off = tensor::norm_all(&tensor::sub(&sum, &last)?)?.item()? / tensor::norm_all(&last)?.item()?.max(1e-30);
        if off.is_nan() || off > if half { 5e-2 } else { 1e-3 } {
            bail!(
                Unsupported,
                "the residual stream is not the sum of what embedding, attention and MLPs add (it is {:.1} % off), so edges \
                 between them do not make the model",
                off * 100.0
            );
        }
        Ok(())
    }
}

/// How a change of heads' results becomes a change of what the attention adds.
pub(crate) struct Joint {
    model: Model,
    base: Trace,
    dtype: Dtype,
}

impl Joint {
    /// `base` is a trace of the rows whose changes are asked about, in which nothing was edited but what every run is under.
    /// `dtype` is the stream's.
    pub fn new(base: &Trace, dtype: Dtype) -> Self {
        Self { model: base.model(), base: base.clone(), dtype }
    }

    /// Whether results are added as they are.
    pub fn is_plain(&self, layer: usize) -> Result<bool> {
        let slot = |value: &str| -> Result<_> {
            let site = self.model.sites().resolve(&format!("layers.{layer}.{value}"))?;
            Ok(self.model.program().source(self.model.program().hooks[site].1.slot))
        };
        Ok(slot("attn.output")? == slot("attn_add")?)
    }

    /// The change of what layer `i` adds when its output changes by `change`: both `[n rows, position, feature]`, the
    /// output and what it adds repeated along the rows as often as need be. Exact, through a norm too.
    pub fn added(&self, i: usize, own: &LayerMessages, change: &Array) -> Result<Array> {
        if self.is_plain(i)? {
            return Ok(change.clone());
        }
        let copies = change.dim(0) / own.output.dim(0).max(1);
        let output = tensor::add(&repeated(&own.output, copies)?, change)?;
        let site = format!("layers.{i}.attn.output");
        let output = tensor::cast(&output, self.dtype)?;
        let added = self.base.onward(&site, &output, &[&format!("layers.{i}.attn_add")])?.swap_remove(0);
        tensor::sub(&tensor::cast(&added, Dtype::Float32)?, &repeated(&own.added, copies)?)
    }
}

/// Rows `n` times over: row `i` is row `i % rows`.
pub(crate) fn repeated(value: &Array, n: usize) -> Result<Array> {
    if n == 1 { Ok(value.clone()) } else { tensor::concatenate(std::iter::repeat_n(value, n), 0) }
}

/// How each sender's addition changes between two runs of the same rows, each sender on its own:
/// `[sender, row, position, feature]`.
pub(crate) fn changes(graph: &Graph, joint: &Joint, from: &Messages, to: &Messages) -> Result<Array> {
    let mut all = vec![tensor::sub(&to.embed, &from.embed)?];
    for (i, (own, other)) in from.layers.iter().zip(&to.layers).enumerate() {
        let results = tensor::swap_axes(&tensor::sub(&other.results, &own.results)?, 0, 1)?;
        let rows = tensor::flatten(&results, 0, 1)?;
        let added = tensor::unflatten(&joint.added(i, own, &rows)?, 0, &[graph.layers[i].heads as i32, -1])?;
        all.extend(
            tensor::split(&added, graph.layers[i].heads, 0)?
                .iter()
                .map(|a| tensor::squeeze(a, 0))
                .collect::<Result<Vec<_>>>()?,
        );
        if let (Some(own), Some(other)) = (&own.mlp, &other.mlp) {
            all.push(tensor::sub(other, own)?);
        }
    }
    debug_assert_eq!(all.len(), graph.senders().len());
    tensor::stack(&all, 0)
}
