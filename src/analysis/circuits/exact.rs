//! Edge patching itself: every edge in a row of its own. What a layer's receivers would make of the stream is worked out
//! once for each sender, and only the layers from there on are run again.

use super::graph::Port;
use super::setting::{Setting, diagonal};
use super::slopes::places;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::Result;
use crate::utils::{Progress, tell};

/// The change of the metric for every edge, `[sender, receiver]`, zero where there is none. `change` is what each sender
/// adds otherwise, `[sender, row, position, feature]`.
pub(super) fn exact(setting: &Setting, change: &Array, chunk: usize, progress: &mut Progress<'_>) -> Result<Array> {
    let graph = &setting.graph;
    let (n_senders, receivers) = (graph.senders().len(), graph.receivers());
    let mut scores = vec![0.0_f32; n_senders * receivers.len()];
    let clean = setting.means(&setting.measured)[0];
    let (mut done, total) = (0, graph.edges() as u64);
    let mut first = 0;
    for (port, layer) in places(setting) {
        let own = graph.at(port, layer);
        let seen = graph.seen(own[0]);
        let together = (chunk / (own.len() * setting.rows)).max(1);
        for start in (0..seen).step_by(together) {
            let n = together.min(seen - start);
            for (i, value) in patched(setting, change, port, layer, start, n)?.into_iter().enumerate() {
                let (sender, receiver) = (start + i / own.len(), first + i % own.len());
                scores[sender * receivers.len() + receiver] = value - clean;
            }
            done += (n * own.len()) as u64;
            tell(progress, done, total)?;
        }
        first += own.len();
    }
    Array::from_slice(&scores, &[n_senders, receivers.len()])
}

/// The metric with one edge changed, for `n` senders from `start` and each receiver of a port, senders outermost.
fn patched(setting: &Setting, change: &Array, port: Port, layer: usize, start: usize, n: usize) -> Result<Vec<f32>> {
    let graph = &setting.graph;
    let last = graph.layers.len() - 1;
    let receivers = graph.at(port, layer).len();
    let (mut from, mut to) = (vec![0; change.ndim()], change.shape().to_vec());
    (from[0], to[0]) = (start as i32, (start + n) as i32);
    let change = tensor::slice(change, &from, &to, &vec![1; change.ndim()])?;
    let at = if port == Port::Logits { last } else { layer };
    let clean = setting.run_from(at, 1)?;
    let stream = tensor::cast(&clean.get(&graph.stream(port, layer))?, Dtype::Float32)?;
    let shown = tensor::flatten(&tensor::add(&tensor::expand_dims(&stream, 0)?, &change)?, 0, 1)?;
    // What every receiver of the port makes of it, and of that one receiver's at a time.
    let all = setting.received(port, layer, &tensor::expand_dims(&shown, 0)?)?;
    let copies = n * receivers;
    let value = if receivers == 1 && matches!(port, Port::Mlp | Port::Logits) {
        all
    } else {
        let plain = clean.get(&port.site(layer))?;
        let ones = vec![1_usize; plain.ndim() - 2];
        let own = diagonal(receivers, &[&[1, receivers, 1, receivers], ones.as_slice()].concat())?;
        let own = tensor::greater(&own, &Array::scalar(0.5, Dtype::Float32)?)?;
        let all = tensor::expand_dims(&tensor::unflatten(&all, 0, &[n as i32, -1])?, 1)?;
        let plain = tensor::expand_dims(&tensor::expand_dims(&plain, 0)?, 0)?;
        tensor::flatten(&tensor::select(&own, &all, &plain)?, 0, 2)?
    };
    let run = setting.run_from(at, copies)?;
    run.set(&port.site(layer), &value)?;
    setting.measure(&run)
}
