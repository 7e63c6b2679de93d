//! What every experiment on edges stands on: the clean run, its graph, and what a receiver makes of a stream of its own.

use super::graph::{Graph, Port};
use super::stream::{Joint, Messages, repeated};
use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Batch, Trace, TraceOptions};
use crate::error::Result;
use crate::utils::{Metric, Prepared};

/// A clean run whose edges are asked about.
pub(crate) struct Setting {
    pub graph: Graph,
    /// The clean prompts, with nothing built and nothing edited but what every run is under.
    pub base: Trace,
    pub joint: Joint,
    pub metric: Prepared,
    /// What the senders add in the clean run.
    pub clean: Messages,
    /// The stream that each layer is given in the clean run, and the last layer's output, in the model's dtype.
    pub streams: Vec<Array>,
    /// The metric of each clean prompt.
    pub measured: Vec<f32>,
    /// Prompts.
    pub rows: usize,
}

impl Setting {
    /// Runs the clean prompts once. A KL divergence is measured from their own predictions.
    pub fn new(model: &Model, clean: Batch, runs: &TraceOptions, metric: &Metric) -> Result<Self> {
        let rows = clean.len();
        let base = model.trace_batch(clean, runs)?;
        let graph = Graph::of(&base)?;
        let run = base.fork()?;
        let mut streams =
            (0..graph.layers.len()).map(|i| run.get(&format!("layers.{i}.resid_pre"))).collect::<Result<Vec<_>>>()?;
        streams.push(run.get("layers.-1.output")?);
        let clean = Messages::of(&run, &graph)?;
        let mut prepared = metric.prepare(model, rows)?;
        if prepared.needs_reference() {
            let reference = run.last_logits()?;
            reference.eval()?;
            prepared = prepared.with_reference(&reference);
        }
        let measured = prepared.of_trace(&run)?;
        clean.eval()?;
        Array::eval_all(streams.iter().chain([&measured]))?;
        clean.check_sum(&streams[graph.layers.len()])?;
        let measured = prepared.numbers(&measured)?;
        let joint = Joint::new(&base, streams[0].dtype());
        Ok(Self { graph, base, joint, metric: prepared, clean, streams, measured, rows })
    }

    /// A run of `copies` times the prompts that begins at a layer, with the clean stream there.
    pub fn run_from(&self, layer: usize, copies: usize) -> Result<Trace> {
        let fork = self.base.fork_rows(copies)?;
        if layer > 0 {
            fork.set(&format!("layers.{layer}.resid_pre"), &repeated(&self.streams[layer], copies)?)?;
        }
        Ok(fork)
    }

    /// What stands at a port's site when each of its receivers is shown a stream of its own:
    /// `[receiver, rows, position, feature]`, float32.
    pub fn received(&self, port: Port, layer: usize, streams: &Array) -> Result<Array> {
        let flat = self.typed(&tensor::flatten(streams, 0, 1)?)?;
        if port == Port::Logits {
            return Ok(flat);
        }
        let all = self.base.onward(&self.graph.stream(port, layer), &flat, &[&port.site(layer)])?.swap_remove(0);
        match streams.dim(0) {
            1 => Ok(all),
            n => own_heads(&all, n),
        }
    }

    /// In the dtype of the model's stream.
    pub fn typed(&self, stream: &Array) -> Result<Array> {
        tensor::cast(stream, self.streams[0].dtype())
    }

    /// Means over the prompts of numbers for copies of them, one a copy.
    pub fn means(&self, numbers: &[f32]) -> Vec<f32> {
        numbers.chunks(self.rows).map(|c| c.iter().sum::<f32>() / self.rows as f32).collect()
    }

    /// The metric of a run, computed now: a mean over the prompts for each copy of them.
    pub fn measure(&self, run: &Trace) -> Result<Vec<f32>> {
        let metric = self.metric.of_trace(run)?;
        Ok(self.means(&self.metric.numbers(&metric)?))
    }
}

/// Of `n` times the rows with `n` heads each, head `i` of copy `i`: `[n rows, n, ..]` to `[rows, n, ..]`.
fn own_heads(all: &Array, n: usize) -> Result<Array> {
    let copies = tensor::split(all, n, 0)?;
    let own = |(i, copy): (usize, &Array)| -> Result<Array> {
        let (mut start, mut stop) = (vec![0; copy.ndim()], copy.shape().to_vec());
        (start[1], stop[1]) = (i as i32, i as i32 + 1);
        tensor::slice(copy, &start, &stop, &vec![1; copy.ndim()])
    };
    let heads = copies.iter().enumerate().map(own).collect::<Result<Vec<_>>>()?;
    tensor::concatenate(&heads, 1)
}

/// Ones where both of the named axes of a shape of ones have the same place.
pub(crate) fn diagonal(n: usize, shape: &[usize]) -> Result<Array> {
    let mut eye = vec![0.0_f32; n * n];
    (0..n).for_each(|i| eye[i * n + i] = 1.0);
    Array::from_slice(&eye, shape)
}

/// An array in float32.
pub(crate) fn f32s(value: &Array) -> Result<Array> {
    tensor::cast(value, Dtype::Float32)
}
