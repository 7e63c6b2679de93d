//! Tensor operations: arguments checked, one instruction each.

use super::rotary::Rotary;
use super::slots::SlotInfo;
use super::value::{Given, Value};
use super::{Elaborator, Scope, Step};
use crate::core::arch::ast::{Arithmetic, Comparison, Expr, Subscript};
use crate::core::arch::expressions::did_you_mean;
use crate::core::arch::place::Pos;
use crate::core::arch::signatures::Signature;
use crate::core::arch::tape::{Binary, Index, Layout, Op, Operand, Reduce, Slot, Unary};
use crate::error::{Error, ErrorKind, Result};

/// Hugging Face's names of activations.
const ACTIVATIONS: [(&str, Unary); 15] = [
    ("silu", Unary::Silu),
    ("swish", Unary::Silu),
    ("gelu", Unary::Gelu),
    ("gelu_python", Unary::Gelu),
    ("gelu_new", Unary::GeluTanh),
    ("gelu_fast", Unary::GeluTanh),
    ("gelu_pytorch_tanh", Unary::GeluTanh),
    ("gelu_tanh", Unary::GeluTanh),
    ("gelu_accurate", Unary::GeluTanh),
    ("quick_gelu", Unary::GeluQuick),
    ("relu", Unary::Relu),
    ("relu2", Unary::Relu2),
    ("relu_squared", Unary::Relu2),
    ("sigmoid", Unary::Sigmoid),
    ("tanh", Unary::Tanh),
];

/// The arguments of one operation.
pub(super) struct Args<'a> {
    pub name: &'a str,
    pub signature: &'static Signature,
    pub given: Given<'a>,
    pub pos: Pos,
}

impl Args<'_> {
    /// An argument by name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let named = self.given.named.iter().find(|(k, _)| k == name).map(|(_, v)| v);
        named.or_else(|| {
            let at = self.signature.params.iter().position(|p| *p == name)?;
            if self.signature.variadic { None } else { self.given.positional.get(at) }
        })
    }

    /// The expression behind an argument.
    fn written(&self, name: &str) -> Option<&Expr> {
        use crate::core::arch::ast::Form;
        let args = self.given.written;
        let named = args.iter().find(|a| a.form == Form::Keyword(name.to_owned()));
        let positional = || {
            let at = self.signature.params.iter().position(|p| *p == name)?;
            args.get(at).filter(|a| a.form == Form::Positional)
        };
        named.or_else(positional).map(|a| &a.value)
    }
}

impl Elaborator<'_> {
    /// A mistake in an argument; names the keys of config.json behind it.
    pub(super) fn wrong(&self, a: &Args<'_>, name: &str, scope: &Scope, message: String) -> Error {
        match a.written(name) {
            Some(e) => self.blame(e, scope, message),
            None => scope.source.error(a.pos, message),
        }
    }

    pub(super) fn slot_of(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<Slot> {
        match a.get(name) {
            Some(Value::Slot(s)) => Ok(*s),
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), Value::shown);
                Err(self.wrong(a, name, scope, format!("'{name}' of '{}' must be a tensor, found {found}", a.name)))
            }
        }
    }

    pub(super) fn number_of(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<Option<f64>> {
        match a.get(name) {
            None | Some(Value::None) => Ok(None),
            Some(v) => match v.number().filter(|n| n.is_finite()) {
                Some(n) => Ok(Some(n)),
                None => Err(self.wrong(
                    a,
                    name,
                    scope,
                    format!("'{name}' of '{}' must be a number, found {}", a.name, v.shown()),
                )),
            },
        }
    }

    fn required(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<f64> {
        match self.number_of(a, name, scope)? {
            Some(n) => Ok(n),
            None => Err(self.wrong(a, name, scope, format!("'{name}' of '{}' must be a number, found none", a.name))),
        }
    }

    pub(super) fn whole_of(&self, a: &Args<'_>, name: &str, otherwise: i64, scope: &Scope) -> Result<i64> {
        match a.get(name) {
            None => Ok(otherwise),
            Some(v) => match v.integer() {
                Some(i) => Ok(i),
                None => {
                    let message = format!("'{name}' of '{}' must be a whole number, found {}", a.name, v.shown());
                    Err(self.wrong(a, name, scope, message))
                }
            },
        }
    }

    /// Calls the operation `name`.
    pub(super) fn operation(
        &mut self,
        name: &str,
        signature: &'static Signature,
        given: Given<'_>,
        scope: &Scope,
        pos: Pos,
    ) -> Result<Value> {
        let a = Args { name, signature, given, pos };
        if let Some(op) = activation(name) {
            let x = self.slot_of(&a, "x", scope)?;
            return self.unary(op, x, scope, pos);
        }
        match name {
            "heads" | "perhead" | "flip" | "merge" | "unflatten" | "flatten" | "transpose" | "swap" | "repeat"
            | "expand" | "squeeze" | "split" | "concat" | "stack" | "cache" => self.shaping(&a, scope),
            "broadcast_heads" | "position_axis" | "reshape" | "tile" | "alibi" | "xielu" | "is_start"
            | "head_conv2" | "ngram_ids" => self.special(&a, scope),
            // A number that was rounded when the model was trained; x says where it is used.
            "round_like_bf16" => match a.get("v").and_then(Value::number) {
                Some(v) => Ok(Value::Float(f64::from(half::bf16::from_f64(v).to_f32()))),
                None => Err(self.wrong(&a, "v", scope, "round_like_bf16 rounds a number".to_owned())),
            },
            "attend" => self.attend(&a, scope),
            "top_k" | "combine" | "sparsemixer" | "take" | "gather" | "put" | "argmax" | "zeros_like" | "topk_mask"
            | "mask_ids" | "blocksparse" => self.choosing(&a, scope),
            "ssd" | "selective_scan" | "gated_delta" | "gla" | "linear_scan" | "wkv7" => self.recurrence(&a, scope),
            "token_shift" => self.same(&a, Op::TokenShift, scope),
            "normalize_qk" => self.normalize_qk(&a, scope),
            "rope" => {
                let x = self.slot_of(&a, "x", scope)?;
                let parts = Rotary {
                    dims: a.get("dims").cloned().unwrap_or(Value::None),
                    base: self.number_of(&a, "base", scope)?,
                    scaling: a.get("scaling").cloned(),
                    interleaved: a.get("traditional").is_some_and(Value::truth),
                    max_pos: self.number_of(&a, "max_pos", scope)?,
                    scale: self.number_of(&a, "scale", scope)?,
                    fault: &|e, name, message| e.wrong(&a, name, scope, message),
                };
                let path = scope.path.clone();
                self.rope(x, parts, &path, scope, pos)
            }
            "act" => {
                let x = self.slot_of(&a, "x", scope)?;
                let op = match a.get("name") {
                    Some(Value::Text(t)) => {
                        ACTIVATIONS.iter().find(|(n, _)| *n == &**t).map(|(_, op)| *op).ok_or_else(|| {
                            let known = ACTIVATIONS.map(|(n, _)| n);
                            let hint = did_you_mean(t, known);
                            self.wrong(
                                &a,
                                "name",
                                scope,
                                format!("the activation '{t}' is not known ({}){hint}", known.join(", ")),
                            )
                        })?
                    }
                    other => {
                        let found = other.map_or_else(|| "nothing".to_owned(), Value::shown);
                        return Err(self.wrong(
                            &a,
                            "name",
                            scope,
                            format!("expected an activation's name, found {found}"),
                        ));
                    }
                };
                self.unary(op, x, scope, pos)
            }
            "sum" | "mean" | "std" | "norm" => self.reduction(&a, scope),
            "minimum" | "maximum" => {
                let op = if name == "minimum" { Binary::Minimum } else { Binary::Maximum };
                let operand = |n: &str| a.get(n).cloned().unwrap_or(Value::None);
                self.binary(op, operand("a"), operand("b"), scope, pos)
            }
            "where" => self.select(&a, scope),
            "softmax" => {
                let axis = self.whole_of(&a, "axis", -1, scope)?;
                self.same(&a, Op::Softmax { axis }, scope)
            }
            "softcap" => {
                let c = self.required(&a, "c", scope)?;
                self.same(&a, Op::Softcap(c), scope)
            }
            "clip" => {
                let (low, high) = (self.number_of(&a, "low", scope)?, self.number_of(&a, "high", scope)?);
                self.same(&a, Op::Clip { low, high }, scope)
            }
            "f32" => self.same(&a, Op::ToF32, scope),
            "like" => {
                let (x, y) = (self.slot_of(&a, "x", scope)?, self.slot_of(&a, "y", scope)?);
                let info = self.info[x as usize].changed();
                self.single(Op::Like, vec![x, y], info, scope, pos)
            }
            "rms" => {
                let eps = self.required(&a, "eps", scope)?;
                self.same(&a, Op::RmsNorm { weight: None, eps, offset: 0.0 }, scope)
            }
            "layer_norm" => {
                let eps = self.required(&a, "eps", scope)?;
                self.same(&a, Op::LayerNorm { weight: None, bias: None, eps, offset: 0.0 }, scope)
            }
            "positions" => {
                let ids = self.slot_of(&a, "ids", scope)?;
                let add = self.whole_of(&a, "add", 0, scope)?;
                self.single(Op::Positions { add }, vec![ids], SlotInfo::of(Layout::Other), scope, pos)
            }
            other => {
                let found = a.given.positional.first().map_or_else(|| "nothing".to_owned(), Value::shown);
                Err(scope.source.error(pos, format!("'{other}' cannot be computed of {found}")))
            }
        }
    }

    /// One instruction with one output.
    pub(super) fn single(
        &mut self,
        op: Op,
        inputs: Vec<Slot>,
        info: SlotInfo,
        scope: &Scope,
        pos: Pos,
    ) -> Result<Value> {
        let path = scope.path.clone();
        Ok(Value::Slot(self.emit(Step { op, inputs }, vec![info], &path, scope, pos)?[0]))
    }

    /// An instruction on `x` whose result has the same axes.
    pub(super) fn same(&mut self, a: &Args<'_>, op: Op, scope: &Scope) -> Result<Value> {
        let x = self.slot_of(a, "x", scope)?;
        let info = self.info[x as usize].changed();
        self.single(op, vec![x], info, scope, a.pos)
    }

    pub(super) fn unary(&mut self, op: Unary, x: Slot, scope: &Scope, pos: Pos) -> Result<Value> {
        let info = self.info[x as usize].changed();
        self.single(Op::Unary(op), vec![x], info, scope, pos)
    }

    /// `where(condition, a, b)`, of which one of a and b may be a number.
    fn select(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let condition = self.slot_of(a, "condition", scope)?;
        let mut inputs = vec![condition];
        let mut operand = |this: &Self, name: &str| match a.get(name).and_then(Value::number) {
            Some(n) => Ok(Operand::Number(n)),
            None => {
                let slot = this.slot_of(a, name, scope)?;
                inputs.push(slot);
                Ok(Operand::Slot(slot))
            }
        };
        let (x, y) = (operand(self, "a")?, operand(self, "b")?);
        let Some(like) = inputs.get(1).copied() else {
            let message = "'where' needs a tensor for 'a' or 'b': of two numbers it cannot tell the dtype".to_owned();
            return Err(self.wrong(a, "a", scope, message));
        };
        let info = self.info[like as usize].changed();
        self.single(Op::Where(x, y), inputs, info, scope, a.pos)
    }

    fn reduction(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let x = self.slot_of(a, "x", scope)?;
        let axis = self.whole_of(a, "axis", -1, scope)?;
        let keep = a.get("keep").is_none_or(Value::truth);
        let op = match a.name {
            "sum" => Reduce::Sum,
            "mean" => Reduce::Mean,
            "std" => Reduce::Std,
            _ => Reduce::Norm,
        };
        let info = match (axis, keep) {
            (-1, true) => self.info[x as usize].changed().width(Some(1)),
            _ => SlotInfo::of(Layout::Other),
        };
        self.single(Op::Reduce { op, axis, keep }, vec![x], info, scope, a.pos)
    }

    /// `a op b` with a tensor among them.
    pub(super) fn arithmetic(&mut self, a: Value, op: Arithmetic, b: Value, e: &Expr, scope: &Scope) -> Result<Value> {
        let one = |v: &Value| v.number() == Some(1.0);
        let zero = |v: &Value| v.number() == Some(0.0);
        let op = match op {
            // What changes nothing emits nothing.
            Arithmetic::Mul if one(&b) => return Ok(a),
            Arithmetic::Mul if one(&a) => return Ok(b),
            Arithmetic::Add if zero(&b) => return Ok(a),
            Arithmetic::Add if zero(&a) => return Ok(b),
            Arithmetic::Div | Arithmetic::Pow if one(&b) => return Ok(a),
            Arithmetic::Sub if zero(&b) => return Ok(a),
            Arithmetic::Matmul => {
                let (Value::Slot(x), Value::Slot(y)) = (&a, &b) else {
                    let message = format!("'@' needs two tensors, found {} and {}", a.shown(), b.shown());
                    return Err(self.blame(e, scope, message));
                };
                let (x, y) = (*x, *y);
                let info = self.info[x as usize].changed().width(self.info[y as usize].width);
                return self.single(Op::Matmul, vec![x, y], info, scope, e.pos);
            }
            Arithmetic::Add => Binary::Add,
            Arithmetic::Sub => Binary::Sub,
            Arithmetic::Mul => Binary::Mul,
            Arithmetic::Div => Binary::Div,
            Arithmetic::FloorDiv => Binary::FloorDiv,
            Arithmetic::Mod => Binary::Mod,
            Arithmetic::Pow => Binary::Pow,
        };
        self.binary_of(op, a, b, scope, e.pos).map_err(|m| match m {
            Problem::Value(m) => self.blame(e, scope, m),
            Problem::Done(e) => e,
        })
    }

    pub(super) fn tensor_comparison(
        &mut self,
        a: Value,
        op: Comparison,
        b: Value,
        e: &Expr,
        scope: &Scope,
    ) -> Result<Value> {
        let op = match op {
            Comparison::Lt => Binary::Lt,
            Comparison::Le => Binary::Le,
            Comparison::Gt => Binary::Gt,
            Comparison::Ge => Binary::Ge,
            Comparison::Eq => Binary::Eq,
            other => {
                let message = format!("'{}' does not compare tensors (<, <=, >, >=, == do)", other.sign());
                return Err(scope.source.error(e.pos, message));
            }
        };
        self.binary(op, a, b, scope, e.pos)
    }

    fn binary(&mut self, op: Binary, a: Value, b: Value, scope: &Scope, pos: Pos) -> Result<Value> {
        self.binary_of(op, a, b, scope, pos).map_err(|m| match m {
            Problem::Value(m) => scope.source.error(pos, m),
            Problem::Done(e) => e,
        })
    }

    fn binary_of(
        &mut self,
        op: Binary,
        a: Value,
        b: Value,
        scope: &Scope,
        pos: Pos,
    ) -> std::result::Result<Value, Problem> {
        let mut inputs = Vec::new();
        let mut operand = |v: &Value| match v {
            Value::Slot(s) => {
                inputs.push(*s);
                Ok(Operand::Slot(*s))
            }
            v => match v.number() {
                Some(n) => Ok(Operand::Number(n)),
                None => Err(Problem::Value(format!("expected a tensor or a number, found {}", v.shown()))),
            },
        };
        let (x, y) = (operand(&a)?, operand(&b)?);
        if inputs.is_empty() {
            return Err(Problem::Value(format!("expected a tensor, found {} and {}", a.shown(), b.shown())));
        }
        let mut info = self.info[inputs[0] as usize].changed();
        if let [first, second] = inputs[..] {
            let second = &self.info[second as usize];
            info.width = match (self.info[first as usize].width, second.width) {
                (Some(1), other) | (other, Some(1)) => other,
                (Some(p), Some(q)) if p != q => {
                    return Err(Problem::Done(scope.source.error_of(
                        ErrorKind::Shape,
                        pos,
                        format!("tensors of {p} and {q} features do not fit together"),
                    )));
                }
                (p, q) => p.and(q),
            };
            if info.layout == Layout::Other {
                info.layout = second.layout;
                info.heads = second.heads;
            }
        }
        self.single(Op::Binary(op, x, y), inputs, info, scope, pos).map_err(Problem::Done)
    }

    /// `x[…]` of a tensor.
    pub(super) fn index(&mut self, x: Slot, subscripts: &[Subscript], e: &Expr, scope: &mut Scope) -> Result<Value> {
        let mut out = Vec::new();
        for s in subscripts {
            out.push(match s {
                Subscript::Ellipsis => Index::Ellipsis,
                Subscript::At(at) => match self.eval(at, scope)? {
                    Value::None => Index::NewAxis,
                    v => match v.integer() {
                        Some(i) => Index::At(i),
                        None => {
                            return Err(self.blame(at, scope, format!("expected a whole number, found {}", v.shown())));
                        }
                    },
                },
                Subscript::Slice(a, b, c) => {
                    let mut bound = |x: &Option<Expr>| match x {
                        None => Ok(None),
                        Some(x) => match self.eval(x, scope)? {
                            Value::None => Ok(None),
                            v => match v.integer() {
                                Some(i) => Ok(Some(i)),
                                None => {
                                    Err(self.blame(x, scope, format!("expected a whole number, found {}", v.shown())))
                                }
                            },
                        },
                    };
                    let (start, stop, step) = (bound(a)?, bound(b)?, bound(c)?.unwrap_or(1));
                    if step < 1 {
                        return Err(scope
                            .source
                            .error(e.pos, format!("a slice's step must be positive, found {step}")));
                    }
                    Index::Slice { start, stop, step }
                }
            });
        }
        if out.iter().filter(|i| **i == Index::Ellipsis).count() > 1 {
            return Err(scope.source.error(e.pos, "'...' stands twice among the subscripts"));
        }
        let info = match out[..] {
            // A part of the features.
            [Index::Ellipsis, Index::Slice { .. }] => self.info[x as usize].changed().width(None),
            _ => SlotInfo::of(Layout::Other),
        };
        self.single(Op::Index(out), vec![x], info, scope, e.pos)
    }
}

/// Why a binary operation could not be emitted.
enum Problem {
    /// One of its values is wrong.
    Value(String),
    /// An error with its place.
    Done(Error),
}

fn activation(name: &str) -> Option<Unary> {
    Some(match name {
        "silu" => Unary::Silu,
        "gelu" => Unary::Gelu,
        "gelu_tanh" => Unary::GeluTanh,
        "gelu_quick" => Unary::GeluQuick,
        "relu" => Unary::Relu,
        "relu2" => Unary::Relu2,
        "sigmoid" => Unary::Sigmoid,
        "tanh" => Unary::Tanh,
        "softplus" => Unary::Softplus,
        "exp" => Unary::Exp,
        "log" => Unary::Log,
        "sqrt" => Unary::Sqrt,
        "square" => Unary::Square,
        "abs" => Unary::Abs,
        "floor" | "floor_" => Unary::Floor,
        "round" | "round_" => Unary::Round,
        _ => return None,
    })
}
