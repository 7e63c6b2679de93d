//! What each instruction of the tape does to arrays. Every call adds nodes to MLX's lazy graph; nothing is computed.

use smallvec::{SmallVec, smallvec};

use super::batch::Batch;
use super::cache::{Cache, State};
use super::{attention, experts, opaque, recurrent, special};
use crate::core::arch::tape::{Binary, Index, Instr, Op, Operand, Reduce, Unary};
use crate::core::model::Parameters;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::{Result, bail, err};

/// The values an instruction makes.
pub(super) type Made = SmallVec<[Array; 1]>;

/// What an instruction may look at besides its inputs, and where it leaves what it remembers.
pub(super) struct Surroundings<'a> {
    pub parameters: &'a Parameters,
    pub batch: &'a Batch,
    pub masks: &'a mut attention::Masks,
    /// What was remembered before this run.
    pub cache: Option<&'a Cache>,
    /// What is remembered after it, by instruction; none when nobody asked for it.
    pub kept: Option<&'a mut [Option<State>]>,
}

impl Surroundings<'_> {
    /// What instruction `index` remembers of earlier runs.
    pub fn past(&self, index: u32) -> Option<&[Array]> {
        self.cache.and_then(|c| c.state(index))
    }

    /// Whether anybody wants the state after this run.
    pub fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Leaves what instruction `index` remembers for the next run.
    pub fn keep(&mut self, index: u32, state: impl IntoIterator<Item = Array>) {
        if let Some(kept) = &mut self.kept {
            kept[index as usize] = Some(state.into_iter().collect());
        }
    }
}

/// Runs instruction number `index`.
pub(super) fn execute(instr: &Instr, index: u32, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    run(instr, index, x, around).map_err(|e| {
        let shapes: Vec<&[i32]> = x.iter().map(|a| a.shape()).collect();
        e.context(format!("{} (line {} of the description), on {shapes:?}", instr.path, instr.line))
    })
}

fn run(instr: &Instr, index: u32, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    let p = around.parameters;
    Ok(smallvec![match &instr.op {
        Op::Linear(w) => p.linear(w, x[0])?,
        Op::Embedding(w) => p.embed(w, x[0])?,
        Op::RmsNorm { weight, eps, offset } => {
            let w = shifted(p, *weight, *offset)?;
            t::rms_norm(x[0], w.as_ref(), *eps)?
        }
        Op::LayerNorm { weight, bias, eps, offset } => {
            let w = shifted(p, *weight, *offset)?;
            t::layer_norm(x[0], w.as_ref(), bias.map(|b| p.tensor(b)).transpose()?, *eps)?
        }
        Op::Rope(_) => p.rotation(index).apply(x[0], around.batch.starts(), around.batch.lengths())?,
        Op::Param(id) => p.tensor(*id)?.clone(),
        Op::Heads { n } => t::transpose(&split_last(x[0], *n)?, &[0, 2, 1, 3])?,
        Op::PerHead { n } => split_last(x[0], *n)?,
        Op::Flip => t::swap_axes(x[0], 1, 2)?,
        Op::Merge => t::flatten(&t::transpose(x[0], &[0, 2, 1, 3])?, 2, 3)?,
        Op::Split { sizes, axis } => return split(x[0], sizes, *axis as i32, instr.outputs.len()),
        Op::Concat { axis } => t::concatenate(x.iter().copied(), *axis as i32)?,
        Op::Stack { axis } => t::stack(x.iter().copied(), *axis as i32)?,
        Op::Cache => return past_and_present(index, x, around),
        Op::Conv { weight, bias } => {
            let bias = bias.map(|b| p.tensor(b)).transpose()?;
            recurrent::convolution(index, x[0], p.tensor(*weight)?, bias, around)?
        }
        Op::Recur { kind, memory } => return recurrent::run(kind, *memory, x, around),
        Op::Remember => {
            around.keep(index, [x[0].clone()]);
            x[0].clone()
        }
        Op::TokenShift => recurrent::token_shift(index, x[0], around)?,
        Op::Attend(a) => attention::fused(a, instr, x, around)?,
        Op::AttendScores(a) => attention::scores(a, instr, x, around)?,
        Op::AttendPattern(a) => attention::pattern(a, instr, x)?,
        Op::AttendMix(_) => attention::mix(x[0], x[1])?,
        Op::HeadResult(w) => {
            let (heads, d) = (x[0].dim(1) as i32, x[0].dim(3) as i32);
            let per_head = t::transpose(&t::unflatten(&p.dense(w)?, 1, &[heads, d])?, &[1, 2, 0])?;
            t::matmul(x[0], &per_head)?
        }
        Op::HeadSum(w) => {
            let sum = t::sum(x[0], 1, false)?;
            match w.bias {
                Some(b) => t::add(&sum, p.tensor(b)?)?,
                None => sum,
            }
        }
        Op::Unary(op) => unary(*op, x[0])?,
        Op::Binary(op, a, b) => binary(*op, *a, *b, x)?,
        Op::Reduce { op, axis, keep } => reduce(*op, x[0], *axis as i32, *keep)?,
        Op::Softmax { axis } => t::softmax(x[0], *axis as i32)?,
        Op::Softcap(c) => {
            let c = t::weak(*c, x[0])?;
            t::mul(&t::tanh(&t::div(x[0], &c)?)?, &c)?
        }
        Op::Clip { low, high } => t::clip(x[0], *low, *high)?,
        Op::Where(a, b) => select(x, *a, *b)?,
        Op::Matmul => t::matmul(x[0], x[1])?,
        Op::ToF32 => t::cast(x[0], Dtype::Float32)?,
        Op::Like => t::cast(x[0], x[1].dtype())?,
        Op::Index(subscripts) => subscript(x[0], subscripts)?,
        Op::Unflatten { axis, shape } => {
            let shape: Vec<i32> = shape.iter().map(|d| *d as i32).collect();
            t::unflatten(x[0], *axis as i32, &shape)?
        }
        Op::Flatten { start, end } => t::flatten(x[0], *start as i32, *end as i32)?,
        Op::Transpose { axes } => t::transpose(x[0], &axes.iter().map(|a| *a as i32).collect::<Vec<_>>())?,
        Op::Swap { a, b } => t::swap_axes(x[0], *a as i32, *b as i32)?,
        Op::Repeat { n, axis } => t::repeat(x[0], *n, *axis as i32)?,
        Op::Expand { axis } => t::expand_dims(x[0], *axis as i32)?,
        Op::Squeeze { axis } => t::squeeze(x[0], *axis as i32)?,
        Op::MultiLinear { weights, transpose } => p.multilinear(weights, *transpose, x[0])?,
        Op::Special(op) => return special::special(op, index, x, around),
        Op::Switch { weights, bounded } => experts::switch(weights, *bounded, x[0], x[1], p)?,
        Op::Choice(choice) => return experts::choose(choice, x, around),
        Op::Opaque => return opaque::call(instr, index, x, around),
        Op::Positions { add } => positions(around.batch, x[0].dim(1), *add)?,
    }])
}

/// Keys and values of the past in front of this run's, along time.
fn past_and_present(index: u32, x: &[&Array], around: &mut Surroundings<'_>) -> Result<Made> {
    let all: Made = match around.past(index) {
        None => x.iter().map(|a| (*a).clone()).collect(),
        Some(past) => past.iter().zip(x).map(|(p, a)| t::concatenate([p, a], 2)).collect::<Result<_>>()?,
    };
    if around.keeps() {
        around.keep(index, all.iter().cloned());
    }
    Ok(all)
}

/// Positions of the tokens plus `add`: `[positions]`, or `[rows, positions]` where rows begin at different places.
fn positions(batch: &Batch, width: usize, add: i64) -> Result<Array> {
    let row = |start: usize| (start as i64 + add, start as i64 + add + width as i64);
    if let Some(start) = batch.start() {
        let (first, end) = row(start);
        return t::arange(first, end, Dtype::Int32);
    }
    let all: Vec<i32> = batch.starts().iter().flat_map(|s| (row(*s).0..row(*s).1).map(|p| p as i32)).collect();
    Array::from_slice(&all, &[batch.len(), width])
}

/// A norm's weight with the constant that some checkpoints leave out (`1 + w`).
fn shifted(p: &Parameters, weight: Option<u32>, offset: f64) -> Result<Option<Array>> {
    let Some(id) = weight else { return Ok(None) };
    let w = p.tensor(id)?;
    if offset == 0.0 { Ok(Some(w.clone())) } else { t::add(&t::weak(offset, w)?, w).map(Some) }
}

fn split_last(x: &Array, n: usize) -> Result<Array> {
    if !x.dim(-1).is_multiple_of(n) {
        bail!(Shape, "{} features cannot be split into {n} heads", x.dim(-1));
    }
    t::unflatten(x, -1, &[n as i32, -1])
}

fn split(x: &Array, sizes: &[usize], axis: i32, n: usize) -> Result<Made> {
    let parts = if sizes.is_empty() {
        t::split(x, n, axis)?
    } else {
        let ends = sizes[..sizes.len() - 1].iter().scan(0, |sum, s| {
            *sum += *s as i32;
            Some(*sum)
        });
        t::split_at(x, &ends.collect::<Vec<_>>(), axis)?
    };
    Ok(parts.into_iter().collect())
}

fn unary(op: Unary, x: &Array) -> Result<Array> {
    let number = |v: f64| t::weak(v, x);
    match op {
        Unary::Neg => t::neg(x),
        Unary::Silu => t::mul(x, &t::sigmoid(x)?),
        Unary::Gelu => {
            let erf = t::erf(&t::div(x, &number(std::f64::consts::SQRT_2)?)?)?;
            t::div(&t::mul(x, &t::add(&number(1.0)?, &erf)?)?, &number(2.0)?)
        }
        Unary::GeluTanh => {
            let cubic = t::mul(&number(0.044715)?, &t::pow(x, &number(3.0)?)?)?;
            let inner = t::mul(&number((2.0 / std::f64::consts::PI).sqrt())?, &t::add(x, &cubic)?)?;
            t::mul(&t::mul(&number(0.5)?, x)?, &t::add(&number(1.0)?, &t::tanh(&inner)?)?)
        }
        Unary::GeluQuick => t::mul(x, &t::sigmoid(&t::mul(&number(1.702)?, x)?)?),
        Unary::Relu => t::maximum(x, &number(0.0)?),
        Unary::Relu2 => t::square(&t::maximum(x, &number(0.0)?)?),
        Unary::Sigmoid => t::sigmoid(x),
        Unary::Tanh => t::tanh(x),
        Unary::Softplus => t::logaddexp(x, &number(0.0)?),
        Unary::Exp => t::exp(x),
        Unary::Log => t::log(x),
        Unary::Sqrt => t::sqrt(x),
        Unary::Square => t::square(x),
        Unary::Abs => t::abs(x),
        Unary::Floor => t::floor(x),
        Unary::Round => t::round(x),
    }
}

fn binary(op: Binary, a: Operand, b: Operand, x: &[&Array]) -> Result<Array> {
    let slots = [a, b].iter().filter(|o| matches!(o, Operand::Slot(_))).count();
    let like = *x.first().ok_or_else(|| err!(Backend, "two numbers reached the executor"))?;
    let mut next = x.iter().copied();
    let mut operand = |o: Operand| match o {
        // `x * x` lists its slot once or twice; both read as the same value.
        Operand::Slot(_) => Ok(next.next().unwrap_or(like).clone()),
        Operand::Number(v) => t::weak(v, like),
    };
    debug_assert!(slots > 0);
    let (a, b) = (operand(a)?, operand(b)?);
    match op {
        Binary::Add => t::add(&a, &b),
        Binary::Sub => t::sub(&a, &b),
        Binary::Mul => t::mul(&a, &b),
        Binary::Div => t::div(&a, &b),
        Binary::Pow => t::pow(&a, &b),
        Binary::Minimum => t::minimum(&a, &b),
        Binary::Maximum => t::maximum(&a, &b),
        Binary::Lt => t::less(&a, &b),
        Binary::Le => t::less_equal(&a, &b),
        Binary::Gt => t::greater(&a, &b),
        Binary::Ge => t::greater_equal(&a, &b),
        Binary::Eq => t::equal(&a, &b),
        Binary::Mod => t::remainder(&a, &b),
        Binary::FloorDiv => t::floor_div(&a, &b),
    }
}

/// Inputs a condition and the slots among `a` and `b`.
fn select(x: &[&Array], a: Operand, b: Operand) -> Result<Array> {
    let like = *x.get(1).ok_or_else(|| err!(Backend, "two numbers reached the executor"))?;
    let mut slots = x[1..].iter();
    let mut operand = |o: Operand| match o {
        Operand::Slot(_) => Ok((*slots.next().unwrap_or(&like)).clone()),
        // Among whole numbers, such as choices of experts, a whole number stays one.
        Operand::Number(v) if !like.dtype().is_float() && v.fract() == 0.0 => Array::scalar(v, like.dtype()),
        Operand::Number(v) => t::weak(v, like),
    };
    let (a, b) = (operand(a)?, operand(b)?);
    t::select(x[0], &a, &b)
}

fn reduce(op: Reduce, x: &Array, axis: i32, keep: bool) -> Result<Array> {
    match op {
        Reduce::Sum => t::sum(x, axis, keep),
        Reduce::Mean => t::mean(x, axis, keep),
        Reduce::Max => t::max(x, axis, keep),
        Reduce::Std => t::std(x, axis, keep),
        Reduce::Norm => t::norm(x, axis, keep),
    }
}

/// Start, stop and step of every axis.
pub(super) type Bounds = (Vec<i32>, Vec<i32>, Vec<i32>);

/// numpy's basic subscripts.
pub fn subscript(x: &Array, subscripts: &[Index]) -> Result<Array> {
    let mut shape = Vec::new();
    let (start, stop, step) = walk(x, subscripts, &mut shape)?;
    t::reshape(&t::slice(x, &start, &stop, &step)?, &shape)
}

/// The part of `x` that subscripts mean, as a slice of every axis.
pub(super) fn bounds(x: &Array, subscripts: &[Index]) -> Result<Bounds> {
    walk(x, subscripts, &mut Vec::new())
}

/// Reads subscripts against the axes of `x`; `shape` gets the axes that stay, go or come.
fn walk(x: &Array, subscripts: &[Index], shape: &mut Vec<i32>) -> Result<Bounds> {
    let named = subscripts.iter().filter(|s| matches!(s, Index::Slice { .. } | Index::At(_))).count();
    if named > x.ndim() {
        bail!(Shape, "{named} subscripts for an array of shape {:?}", x.shape());
    }
    let (mut start, mut stop, mut step) = (vec![0; x.ndim()], x.shape().to_vec(), vec![1; x.ndim()]);
    let mut axis = 0;
    for s in subscripts {
        match s {
            Index::Ellipsis => {
                for _ in 0..x.ndim() - named {
                    shape.push(x.shape()[axis]);
                    axis += 1;
                }
            }
            Index::NewAxis => shape.push(1),
            Index::At(i) => {
                let n = i64::from(x.shape()[axis]);
                if *i < -n || *i >= n {
                    bail!(Shape, "index {i} is outside axis {axis} of an array of shape {:?}", x.shape());
                }
                start[axis] = i.rem_euclid(n) as i32;
                stop[axis] = start[axis] + 1;
                axis += 1;
            }
            Index::Slice { start: a, stop: b, step: by } => {
                let n = i64::from(x.shape()[axis]);
                if *by < 1 {
                    bail!(Unsupported, "a slice step of {by}: only forward slices are supported");
                }
                let bound = |v: i64| if v < 0 { (v + n).max(0) } else { v.min(n) };
                let (a, b) = (bound(a.unwrap_or(0)), bound(b.unwrap_or(n)));
                (start[axis], stop[axis], step[axis]) = (a as i32, b.max(a) as i32, *by as i32);
                shape.push(((b.max(a) - a + by - 1) / by) as i32);
                axis += 1;
            }
        }
    }
    shape.extend_from_slice(&x.shape()[axis..]);
    Ok((start, stop, step))
}
