//! Runs in which edges are cut: each receiver sees, of the senders at the start of its cut edges, what stands in for them.
//! Many sets of cuts run as rows of one batch, and receivers of a layer that see different streams as rows of its own part.

use super::graph::{Graph, Port, Receiver, Sender};
use super::setting::{Setting, f32s};
use super::stream::{LayerMessages, Messages, repeated};
use crate::core::tensor::{self, Array};
use crate::core::trace::Trace;
use crate::error::Result;

/// Which edges are cut.
#[derive(Clone)]
pub(crate) struct Cuts {
    /// A mark for each receiver and each sender, receivers outermost.
    marks: Vec<bool>,
    senders: usize,
}

impl Cuts {
    /// None of a graph's edges, or all of them.
    pub fn new(graph: &Graph, cut: bool) -> Self {
        let (senders, receivers) = (graph.senders().len(), graph.receivers());
        let mut marks = vec![false; senders * receivers.len()];
        for (r, to) in receivers.iter().enumerate() {
            marks[r * senders..r * senders + graph.seen(*to)].fill(cut);
        }
        Self { marks, senders }
    }

    /// Cuts an edge, or mends it.
    pub fn set(&mut self, sender: usize, receiver: usize, cut: bool) {
        self.marks[receiver * self.senders + sender] = cut;
    }

    fn of(&self, receiver: usize) -> &[bool] {
        &self.marks[receiver * self.senders..(receiver + 1) * self.senders]
    }
}

/// Numbers of a graph's receivers and senders.
pub(crate) struct Places {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
}

impl Places {
    pub fn of(graph: &Graph) -> Self {
        Self { senders: graph.senders(), receivers: graph.receivers() }
    }

    pub fn sender(&self, sender: Sender) -> usize {
        self.senders.iter().position(|s| *s == sender).unwrap_or_default()
    }

    pub fn receiver(&self, receiver: Receiver) -> usize {
        self.receivers.iter().position(|r| *r == receiver).unwrap_or_default()
    }
}

/// A run with as many copies of the prompts as there are sets of cuts. No cut may end before layer `first`: the layers
/// before it are not run.
pub(crate) fn run_cut(setting: &Setting, instead: &Messages, cuts: &[Cuts], first: usize) -> Result<Trace> {
    let copies = cuts.len();
    let run = setting.run_from(first, copies)?;
    let instead = instead.each(|x| repeated(x, copies))?;
    let clean = setting.clean.each(|x| repeated(x, copies))?;
    let mut so_far = SoFar { setting, cuts, places: Places::of(&setting.graph), parts: Vec::new(), count: 0 };
    let embed = if first > 0 { clean.embed.clone() } else { f32s(&run.get("layers.0.resid_pre")?)? };
    so_far.plain(&tensor::expand_dims(&tensor::sub(&instead.embed, &embed)?, 1)?)?;
    for (i, shape) in setting.graph.layers.iter().enumerate() {
        let other = &instead.layers[i];
        let mut own = if i < first { clean.layers[i].clone() } else { so_far.attention(&run, i)? };
        so_far.heads(i, &own, &tensor::sub(&other.results, &own.results)?)?;
        if !shape.mlp {
            continue;
        }
        if i >= first {
            so_far.show(&run, Port::Mlp, i)?;
            own.mlp = Some(LayerMessages::mlp(&run, i)?);
        }
        if let (Some(own), Some(other)) = (&own.mlp, &other.mlp) {
            so_far.plain(&tensor::expand_dims(&tensor::sub(other, own)?, 1)?)?;
        }
    }
    so_far.show(&run, Port::Logits, 0)?;
    Ok(run)
}

/// How what stands in differs from what was added, for the senders that have run.
struct SoFar<'a> {
    setting: &'a Setting,
    cuts: &'a [Cuts],
    places: Places,
    parts: Vec<Part>,
    /// Senders so far.
    count: usize,
}

struct Part {
    /// Number of the first sender.
    first: usize,
    /// `[row, sender, position x feature]`: of the addition itself, or of the heads' results.
    change: Array,
    /// Heads whose sum goes through something before it is added.
    joint: Option<(usize, LayerMessages)>,
}

impl SoFar<'_> {
    /// Senders whose change `[row, sender, position, feature]` is a change of the stream.
    fn plain(&mut self, change: &Array) -> Result<()> {
        self.push(change, None)
    }

    fn heads(&mut self, layer: usize, own: &LayerMessages, change: &Array) -> Result<()> {
        let joint = (!self.setting.joint.is_plain(layer)?).then(|| (layer, own.clone()));
        self.push(change, joint)
    }

    fn push(&mut self, change: &Array, joint: Option<(usize, LayerMessages)>) -> Result<()> {
        let first = self.count;
        self.count += change.dim(1);
        self.parts.push(Part { first, change: tensor::flatten(change, 2, 3)?, joint });
        Ok(())
    }

    /// Shows the attention of a layer its streams, and reads what it adds.
    fn attention(&self, run: &Trace, layer: usize) -> Result<LayerMessages> {
        for port in Port::OF_ATTENTION {
            self.show(run, port, layer)?;
        }
        LayerMessages::attention(run, layer)
    }

    /// Shows the receivers of a port their own streams, unless all of them see the run's.
    fn show(&self, run: &Trace, port: Port, layer: usize) -> Result<()> {
        let receivers: Vec<usize> =
            self.setting.graph.at(port, layer).into_iter().map(|r| self.places.receiver(r)).collect();
        let stream = f32s(&run.get(&self.setting.graph.stream(port, layer))?)?;
        let mut shown: Option<Array> = None;
        for part in &self.parts {
            let Some(change) = self.change(part, &receivers, &stream)? else { continue };
            shown = Some(match shown {
                None => tensor::add(&tensor::expand_dims(&stream, 0)?, &change)?,
                Some(before) => tensor::add(&before, &change)?,
            });
        }
        let Some(shown) = shown else { return Ok(()) };
        run.set(&port.site(layer), &self.setting.received(port, layer, &shown)?)
    }

    /// The change of the stream `[receiver, row, position, feature]` through the cuts of one part's senders; none where
    /// nothing of it is cut.
    fn change(&self, part: &Part, receivers: &[usize], stream: &Array) -> Result<Option<Array>> {
        let n = part.change.dim(1);
        let mut marks = Vec::with_capacity(self.cuts.len() * receivers.len() * n);
        for cuts in self.cuts {
            for r in receivers {
                marks.extend(cuts.of(*r)[part.first..part.first + n].iter().map(|cut| f32::from(u8::from(*cut))));
            }
        }
        if marks.iter().all(|m| *m == 0.0) {
            return Ok(None);
        }
        let marks = Array::from_slice(&marks, &[self.cuts.len(), receivers.len(), n])?;
        // Row `copy * prompts + prompt` is of that copy.
        let marks = tensor::repeat(&marks, self.setting.rows, 0)?;
        let change = tensor::swap_axes(&tensor::matmul(&marks, &part.change)?, 0, 1)?;
        let change = tensor::unflatten(&change, -1, &stream.shape()[1..])?;
        let Some((layer, own)) = &part.joint else { return Ok(Some(change)) };
        let added = self.setting.joint.added(*layer, own, &tensor::flatten(&change, 0, 1)?)?;
        Ok(Some(tensor::unflatten(&added, 0, &[receivers.len() as i32, -1])?))
    }
}
