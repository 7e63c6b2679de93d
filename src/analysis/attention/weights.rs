//! The matrices of a layer's heads, found on the tape: from what the attention kernel takes back to the matrix that makes
//! it, and from what it gives on to the matrix that takes it.
//!
//! Rows count: a query of the stream `x` is `x W_Q`, so `W_Q` is `[width, head size]`. A norm in front is folded in as far
//! as it is linear: its weights, and for a layer norm the mean taken off. What is not linear or not the same at all
//! positions is left out and said in `left_out`.

use std::collections::BTreeSet;

use crate::core::arch::tape::{Attention, Binary, Op, Operand, Producer, Slot, TensorId, Weights};
use crate::core::model::{Inner, Model};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::{Passed, Route, between, from_linear};
use crate::error::{Error, Result, bail, err};

/// What heads ask and are asked by, float32.
pub(super) struct QueriesAndKeys {
    /// `[head, width, head size]`
    pub q: Array,
    /// `[head, width, head size]`, of fewer heads where several queries share one.
    pub k: Array,
    /// What the matrices do not say, in words.
    pub left_out: BTreeSet<&'static str>,
}

/// What heads read and write, float32.
pub(super) struct ValuesAndOutputs {
    /// `[head, width, value size]`, of fewer heads where several queries share one.
    pub v: Array,
    /// `[head, value size, width]`
    pub o: Array,
    /// What the matrices do not say, in words.
    pub left_out: BTreeSet<&'static str>,
}

/// Matrices of shared heads, one a query head of which there are `n`.
pub(super) fn spread(shared: &Array, n: usize) -> Result<Array> {
    tensor::repeat(shared, n / shared.dim(0), 0)
}

/// Finds the matrices of queries and keys. Unsupported where they are no matrix's output cut into heads (latent attention,
/// a convolution in between).
pub(super) fn queries_and_keys(model: &Model, layer: usize) -> Result<QueriesAndKeys> {
    let finder = Finder { model, layer, left_out: BTreeSet::new() };
    finder.queries_and_keys().map_err(|e| e.context(format!("the QK circuits of layer {layer}")))
}

/// Finds the matrices of values and outputs. Unsupported where values are no matrix's output cut into heads, or what the
/// heads give meets something else before its matrix (a gate).
pub(super) fn values_and_outputs(model: &Model, layer: usize) -> Result<ValuesAndOutputs> {
    let finder = Finder { model, layer, left_out: BTreeSet::new() };
    finder.values_and_outputs().map_err(|e| e.context(format!("the OV circuits of layer {layer}")))
}

struct Finder<'a> {
    model: &'a Model,
    layer: usize,
    left_out: BTreeSet<&'static str>,
}

impl Finder<'_> {
    /// What the attention gives, and the instruction that is it.
    fn attention(&self) -> Result<(Slot, &Attention, &[Slot])> {
        let z = self.slot("attn.z").ok_or_else(|| err!(Unsupported, "it has no attention with a site 'attn.z'"))?;
        let program = &self.model.inner().program;
        let instr = match program.origin(z) {
            Producer::Instr(index) => &program.instrs[index as usize],
            _ => bail!(Unsupported, "its 'attn.z' is not made by an attention"),
        };
        match &instr.op {
            Op::Attend(attention) => Ok((z, attention, &instr.inputs)),
            _ => bail!(Unsupported, "{} is no attention over queries, keys and values", instr.path),
        }
    }

    fn queries_and_keys(mut self) -> Result<QueriesAndKeys> {
        let (_, attention, inputs) = self.attention()?;
        let (biased, capped) = (attention.bias.is_some(), attention.softcap.is_some());
        let (q, k) = (inputs[0], inputs[1]);
        let q = self.reads(q, "norms of queries or keys").map_err(|e| e.context("queries"))?;
        let k = self.reads(k, "norms of queries or keys").map_err(|e| e.context("keys"))?;
        if q.dim(0) % k.dim(0) != 0 || q.dim(1) != k.dim(1) || q.dim(2) != k.dim(2) {
            bail!(
                Unsupported,
                "queries {:?} and keys {:?} (head, width, size) are not heads in groups",
                q.shape(),
                k.shape()
            );
        }
        if biased {
            self.left_out.insert("biases of scores");
        }
        if capped {
            self.left_out.insert("soft-caps of scores");
        }
        Ok(QueriesAndKeys { q, k, left_out: self.left_out })
    }

    fn values_and_outputs(mut self) -> Result<ValuesAndOutputs> {
        let (z, _, inputs) = self.attention()?;
        let (v, heads) = (inputs[2], self.heads()?);
        let v = self.reads(v, "norms of values").map_err(|e| e.context("values"))?;
        let o = self.writes(z, heads, v.dim(2)).map_err(|e| e.context("outputs"))?;
        if heads % v.dim(0) != 0 || o.dim(2) != v.dim(1) {
            bail!(Unsupported, "values {:?} and outputs {:?} (head, …) are not of one stream", v.shape(), o.shape());
        }
        Ok(ValuesAndOutputs { v, o, left_out: self.left_out })
    }

    /// How many query heads there are, read off a run that is not computed.
    fn heads(&self) -> Result<usize> {
        Ok(self.model.trace(vec![0u32])?.get(&format!("layers.{}.attn.z", self.layer))?.dim(1))
    }

    fn slot(&self, name: &str) -> Option<Slot> {
        let site = self.model.inner().sites.resolve(&format!("layers.{}.{name}", self.layer)).ok()?;
        Some(self.model.inner().slot(site))
    }

    /// `[head, width, size]` of what the kernel takes; `normed` says what a norm on the way is one of.
    fn reads(&mut self, slot: Slot, normed: &'static str) -> Result<Array> {
        let Route { linear, shape, numbers, passed } = from_linear(self.model.inner(), slot)?;
        let &[1, heads, 1, size] = shape.as_slice() else {
            bail!(Unsupported, "its shape for one token is {shape:?}, not [1, head, 1, size]")
        };
        self.note(passed, normed);
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
        let instr = &self.model.inner().program.instrs[index as usize];
        match &instr.op {
            Op::Linear(w) => Ok((w.clone(), instr.inputs[0])),
            _ => bail!(Backend, "instruction {index} is no linear"),
        }
    }

    /// A weight `[outputs, inputs]`, unpacked, float32.
    fn dense(&self, weights: &Weights) -> Result<Array> {
        tensor::cast(&self.model.inner().parameters.dense(weights)?, Dtype::Float32)
    }

    /// `[rows, inputs]` with the norm that makes `input` folded in; the norm must read the stream that the layer gets.
    fn fold(&mut self, w: Array, input: Slot) -> Result<Array> {
        let own = self.slot("input").map(|s| self.model.inner().program.source(s));
        let Folded { w, stream, shift } = fold_norm(self.model.inner(), w, input, own)?;
        if shift {
            self.left_out.insert("biases");
        }
        if own != Some(stream) {
            self.left_out.insert("what happens between the layer's input and its attention");
        }
        Ok(w)
    }

    /// `[head, size, width]` of the matrix that takes what the heads give.
    fn writes(&mut self, z: Slot, heads: usize, size: usize) -> Result<Array> {
        let program = &self.model.inner().program;
        let at = program.source(z);
        let mut why: Option<Error> = None;
        for (index, instr) in program.instrs.iter().enumerate() {
            let Op::Linear(w) = &instr.op else { continue };
            if !depends(self.model.inner(), instr.inputs[0], at, 12) {
                continue;
            }
            match between(self.model.inner(), at, vec![1, heads, 1, size], instr.inputs[0]) {
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
        let width = self.model.inner().program.source(out);
        match between(self.model.inner(), width, vec![1, 1, 1], added) {
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

/// A matrix with what stands in front of it folded in.
pub(super) struct Folded {
    /// `[rows, features]`
    pub w: Array,
    /// What it takes now.
    pub stream: Slot,
    /// Whether a constant that a norm adds was left out.
    pub shift: bool,
}

/// `w` `[rows, features]` that takes `input`, made to take what the norm and the constant factors in front of it take, as far
/// as the value `until`.
pub(super) fn fold_norm(model: &Inner, w: Array, input: Slot, until: Option<Slot>) -> Result<Folded> {
    let program = &model.program;
    let mut folded = Folded { w, stream: program.source(input), shift: false };
    let mut normed = false;
    while until != Some(folded.stream) {
        let Producer::Instr(i) = program.origin(folded.stream) else { break };
        let instr = &program.instrs[i as usize];
        let next = match &instr.op {
            Op::ToF32 | Op::Like => instr.inputs[0],
            Op::Binary(Binary::Mul, Operand::Slot(x), Operand::Number(n))
            | Op::Binary(Binary::Mul, Operand::Number(n), Operand::Slot(x)) => {
                folded.w = tensor::mul(&folded.w, &tensor::weak(*n, &folded.w)?)?;
                *x
            }
            Op::Binary(Binary::Div, Operand::Slot(x), Operand::Number(n)) => {
                folded.w = tensor::div(&folded.w, &tensor::weak(*n, &folded.w)?)?;
                *x
            }
            Op::RmsNorm { weight, offset, .. } if !normed => {
                normed = true;
                folded.w = gained(model, &folded.w, *weight, *offset)?;
                instr.inputs[0]
            }
            Op::LayerNorm { weight, bias, offset, .. } if !normed => {
                normed = true;
                folded.shift = bias.is_some();
                let w = gained(model, &folded.w, *weight, *offset)?;
                folded.w = tensor::sub(&w, &tensor::mean(&w, -1, true)?)?;
                instr.inputs[0]
            }
            _ => break,
        };
        folded.stream = program.source(next);
    }
    Ok(folded)
}

/// Rows of `w` times a norm's weights.
fn gained(model: &Inner, w: &Array, weight: Option<TensorId>, offset: f64) -> Result<Array> {
    let Some(id) = weight else { return Ok(w.clone()) };
    let gain = tensor::cast(model.parameters.tensor(id)?, Dtype::Float32)?;
    tensor::mul(w, &tensor::add(&gain, &tensor::weak(offset, &gain)?)?)
}
