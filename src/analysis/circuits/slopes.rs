//! The metric's gradient with respect to the residual stream as each receiver sees it: one backward pass to what the
//! receivers make of the stream, and from there each receiver's own way back, all of a layer as rows of one batch.

use super::graph::Port;
use super::setting::{Setting, diagonal, f32s};
use super::stream::repeated;
use crate::core::tensor::{self, Array};
use crate::core::trace::Trace;
use crate::error::Result;

/// The gradients `[receiver, row, position, feature]`, float32, of a run of any number of copies of the prompts.
pub(crate) fn slopes(setting: &Setting, run: &Trace) -> Result<Array> {
    let places = places(setting);
    let mut sites: Vec<String> = Vec::new();
    for (port, layer) in &places {
        sites.push(port.site(*layer));
        sites.push(setting.graph.stream(*port, *layer));
    }
    let mut named = sites.clone();
    named.sort_unstable();
    named.dedup();
    let found = run.gradients(&named, |fork| setting.metric.of_trace(fork))?;
    let at = |site: &String| named.binary_search(site).unwrap_or_default();
    let mut all = Vec::new();
    for ((port, layer), pair) in places.iter().zip(sites.chunks(2)) {
        let (gradient, stream) = (&found.gradients[at(&pair[0])], &found.values[at(&pair[1])]);
        all.push(back(setting, *port, *layer, stream, gradient)?);
    }
    setting.metric.numbers(&found.metric)?;
    tensor::concatenate(&all, 0)
}

/// Every port of every layer that has receivers, in the order of the graph's receivers.
pub(crate) fn places(setting: &Setting) -> Vec<(Port, usize)> {
    let mut all = Vec::new();
    for (layer, shape) in setting.graph.layers.iter().enumerate() {
        all.extend(Port::OF_ATTENTION.map(|port| (port, layer)));
        all.extend(shape.mlp.then_some((Port::Mlp, layer)));
    }
    all.push((Port::Logits, 0));
    all
}

/// Pulls a gradient at a port back to the stream, each receiver's part alone: `[receiver, row, position, feature]`.
fn back(setting: &Setting, port: Port, layer: usize, stream: &Array, gradient: &Array) -> Result<Array> {
    let gradient = f32s(gradient)?;
    if port == Port::Logits {
        return tensor::expand_dims(&gradient, 0);
    }
    let receivers = setting.graph.at(port, layer).len();
    let own = if port == Port::Mlp {
        gradient
    } else {
        // Copy `i` of the rows keeps what leads to receiver `i`.
        let mut eye = vec![1; gradient.ndim() + 1];
        (eye[0], eye[2]) = (receivers, receivers);
        let parts = tensor::mul(&diagonal(receivers, &eye)?, &tensor::expand_dims(&gradient, 0)?)?;
        tensor::flatten(&parts, 0, 1)?
    };
    let from = setting.graph.stream(port, layer);
    let copies = [repeated(stream, receivers)?];
    let (_, pulled) = tensor::value_and_gradients(&copies, |x| {
        let made = setting.base.onward(&from, &x[0], &[&port.site(layer)])?.swap_remove(0);
        tensor::sum_all(&tensor::mul(&f32s(&made)?, &own)?)
    })?;
    tensor::unflatten(&f32s(&pulled[0])?, 0, &[receivers as i32, -1])
}
