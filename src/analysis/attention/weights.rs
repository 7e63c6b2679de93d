//! The matrices of a layer's heads, found on the tape: from what the attention kernel takes back to the matrix that makes
//! it, and from what it gives on to the matrix that takes it.
//!
//! Rows count: a query of the stream `x` is `x W_Q`, so `W_Q` is `[width, head size]`. A norm in front is folded in as far
//! as it is linear: its weights, and for a layer norm the mean taken off. What is not linear or not the same at all
//! positions is left out and said in [`LayerHeads::left_out`].

use std::collections::BTreeSet;

use crate::core::arch::tape::{Op, Producer, Slot, Weights};
use crate::core::model::{Inner, Model};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Passed, Route, between, from_linear};
use crate::error::{Error, Result, bail, err};

/// Matrices of all heads of one layer, float32.
pub(super) struct LayerHeads {
    /// `[head, width, head size]`
    pub q: Array,
    /// `[head, width, head size]`, of fewer heads where several queries share one.
    pub k: Array,
    /// `[head, width, value size]`, likewise.
    pub v: Array,
    /// `[head, value size, width]`
    pub o: Array,
    /// What the matrices do not say, in words.
    pub left_out: BTreeSet<&'static str>,
}

impl LayerHeads {
    /// The key and value head of a query head.
    pub fn group(&self, head: usize) -> usize {
        head * self.k.dim(0) / self.q.dim(0)
    }

    /// Keys' matrices `[head, …]`, one a query head.
    pub fn keys(&self) -> Result<Array> {
        tensor::repeat(&self.k, self.q.dim(0) / self.k.dim(0), 0)
    }

    /// Values' matrices, one a query head.
    pub fn values(&self) -> Result<Array> {
        tensor::repeat(&self.v, self.q.dim(0) / self.v.dim(0), 0)
    }
}

/// Finds them. Unsupported where queries, keys or values are no matrix's output cut into heads (latent attention, a
/// convolution in between), or what the heads give meets something else before its matrix (a gate).
pub(super) fn layer_heads(model: &Model, layer: usize) -> Result<LayerHeads> {
    let found = Finder { model: model.inner(), layer, left_out: BTreeSet::new() };
    found.all().map_err(|e| e.context(format!("the matrices of layer {layer}'s heads")))
}

struct Finder<'a> {
    model: &'a Inner,
    layer: usize,
    left_out: BTreeSet<&'static str>,
}

impl Finder<'_> {
    fn all(mut self) -> Result<LayerHeads> {
        let z = self.slot("attn.z").ok_or_else(|| err!(Unsupported, "it has no attention with a site 'attn.z'"))?;
        let program = &self.model.program;
        let inputs = match program.origin(z) {
            Producer::Instr(i) => match &program.instrs[i as usize] {
                instr if matches!(instr.op, Op::Attend(_)) => &instr.inputs,
                instr => bail!(Unsupported, "{} is no attention over queries, keys and values", instr.path),
            },
            _ => bail!(Unsupported, "its 'attn.z' is not made by an attention"),
        };
        let q = self.reads(inputs[0]).map_err(|e| e.context("queries"))?;
        let k = self.reads(inputs[1]).map_err(|e| e.context("keys"))?;
        let v = self.reads(inputs[2]).map_err(|e| e.context("values"))?;
        let (heads, size) = (q.dim(0), v.dim(2));
        if k.dim(0) != v.dim(0) || heads % k.dim(0) != 0 || k.dim(2) != q.dim(2) {
            bail!(
                Unsupported,
                "queries {:?}, keys {:?} and values {:?} (head, width, size) are not heads in groups",
                q.shape(),
                k.shape(),
                v.shape()
            );
        }
        let o = self.writes(z, heads, size).map_err(|e| e.context("outputs"))?;
        if o.dim(2) != q.dim(1) {
            bail!(Unsupported, "heads read {} features and write {}: not one stream", q.dim(1), o.dim(2));
        }
        Ok(LayerHeads { q, k, v, o, left_out: self.left_out })
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        let site = self.model.sites.resolve(&format!("layers.{}.{name}", self.layer)).ok()?;
        Some(self.model.slot(site))
    }

    /// `[head, width, size]` of what the kernel takes.
    fn reads(&mut self, slot: Slot) -> Result<Array> {
        let Route { linear, shape, numbers, passed } = from_linear(self.model, slot)?;
        let &[1, heads, 1, size] = shape.as_slice() else {
            bail!(Unsupported, "its shape for one token is {shape:?}, not [1, head, 1, size]")
        };
        self.note(passed, "norms of queries or keys");
        let (weights, input) = self.linear(linear.ok_or_else(|| err!(Unsupported, "no matrix makes it"))?)?;
        if weights.bias.is_some() {
            self.left_out.insert("biases");
        }
        let rows = Array::from_slice(&numbers, &[numbers.len()])?;
        let w = tensor::take(&self.dense(&weights)?, &rows, 0)?;
        let w = self.fold(w, input)?;
        tensor::swap_axes(&tensor::unflatten(&w, 0, &[heads as i32, size as i32])?, 1, 2)
    }

    fn note(&mut self, passed: Passed, normed: &'static str) {
        let all = [
            (passed.rotated, "rotations by position"),
            (passed.normed, normed),
            (passed.scaled, "constant factors"),
            (passed.clipped, "clipping"),
        ];
        self.left_out.extend(all.into_iter().filter(|(was, _)| *was).map(|(_, what)| what));
    }

    fn linear(&self, index: u32) -> Result<(Weights, Slot)> {
        let instr = &self.model.program.instrs[index as usize];
        match &instr.op {
            Op::Linear(w) => Ok((w.clone(), instr.inputs[0])),
            _ => bail!(Backend, "instruction {index} is no linear"),
        }
    }

    /// A weight `[outputs, inputs]`, unpacked, float32.
    fn dense(&self, weights: &Weights) -> Result<Array> {
        tensor::cast(&self.model.parameters.dense(weights)?, Dtype::Float32)
    }

    /// `[rows, inputs]` with the norm that makes `input` folded in; the norm must read the stream that the layer gets.
    fn fold(&mut self, w: Array, input: Slot) -> Result<Array> {
        let (w, stream, shift) = fold_norm(self.model, w, input)?;
        if shift {
            self.left_out.insert("biases");
        }
        match self.slot("input") {
            Some(own) if self.model.program.source(own) == self.model.program.source(stream) => {}
            _ => {
                self.left_out.insert("what happens between the layer's input and its attention");
            }
        }
        Ok(w)
    }

    /// `[head, size, width]` of the matrix that takes what the heads give.
    fn writes(&mut self, z: Slot, heads: usize, size: usize) -> Result<Array> {
        let program = &self.model.program;
        let at = program.source(z);
        let mut why: Option<Error> = None;
        for (index, instr) in program.instrs.iter().enumerate() {
            let Op::Linear(w) = &instr.op else { continue };
            if !depends(self.model, instr.inputs[0], at, 12) {
                continue;
            }
            match between(self.model, at, vec![1, heads, 1, size], instr.inputs[0]) {
                Ok(route) if route.numbers.len() == heads * size => {
                    let w = w.clone();
                    self.note(route.passed, "norms of what the heads give");
                    self.after(program.instrs[index].outputs[0]);
                    let mut column = vec![0u32; heads * size];
                    for (c, number) in route.numbers.iter().enumerate() {
                        column[*number as usize] = c as u32;
                    }
                    let columns = Array::from_slice(&column, &[column.len()])?;
                    let o = tensor::swap_axes(&tensor::take(&self.dense(&w)?, &columns, 1)?, 0, 1)?;
                    return tensor::unflatten(&o, 0, &[heads as i32, size as i32]);
                }
                Ok(_) => why = why.or(Some(err!(Unsupported, "{} takes part of what the heads give", w.path))),
                Err(e) => why = why.or(Some(e)),
            }
        }
        Err(why.unwrap_or_else(|| err!(Unsupported, "no matrix takes what the heads give")))
    }

    /// Notes what stands between the output matrix and the stream.
    fn after(&mut self, out: Slot) {
        let Some(added) = self.slot("attn_add") else { return };
        let width = self.model.program.source(out);
        match between(self.model, width, vec![1, 1, 1], added) {
            Ok(route) => self.note(route.passed, "a norm behind attention"),
            Err(_) => {
                self.left_out.insert("what happens between the output matrix and the stream");
            }
        }
    }
}

/// Whether `slot` is made from `from` in at most so many steps.
fn depends(model: &Inner, slot: Slot, from: Slot, steps: usize) -> bool {
    let slot = model.program.source(slot);
    if slot == from {
        return true;
    }
    match model.program.origin(slot) {
        Producer::Instr(i) if steps > 0 && !matches!(model.program.instrs[i as usize].op, Op::Linear(_)) => {
            model.program.instrs[i as usize].inputs.iter().any(|s| depends(model, *s, from, steps - 1))
        }
        _ => false,
    }
}

/// `w` `[rows, features]` that takes `input`, made to take what the norm in front of it takes: that slot, and whether a
/// constant that the norm adds was left out.
pub(super) fn fold_norm(model: &Inner, w: Array, input: Slot) -> Result<(Array, Slot, bool)> {
    let program = &model.program;
    let Producer::Instr(i) = program.origin(input) else { return Ok((w, input, false)) };
    let instr = &program.instrs[i as usize];
    let (weight, offset, centred, shift) = match &instr.op {
        Op::RmsNorm { weight, offset, .. } => (weight, *offset, false, false),
        Op::LayerNorm { weight, bias, offset, .. } => (weight, *offset, true, bias.is_some()),
        Op::ToF32 | Op::Like => return fold_norm(model, w, instr.inputs[0]),
        _ => return Ok((w, input, false)),
    };
    let mut w = w;
    if let Some(id) = weight {
        let gain = tensor::cast(model.parameters.tensor(*id)?, Dtype::Float32)?;
        let gain = if offset == 0.0 { gain } else { tensor::add(&gain, &tensor::weak(offset, &gain)?)? };
        w = tensor::mul(&w, &gain)?;
    }
    if centred {
        w = tensor::sub(&w, &tensor::mean(&w, -1, true)?)?;
    }
    Ok((w, instr.inputs[0], shift))
}
