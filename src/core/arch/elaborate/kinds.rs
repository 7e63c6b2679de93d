//! The kinds of modules that hold tensors.

use super::kind_args::KindArgs;
use super::slots::SlotInfo;
use super::value::{Given, Module, Value};
use super::{Elaborator, Scope, Step, join};
use crate::core::arch::place::Pos;
use crate::core::arch::tape::{Binary, Detour, Layout, Op, Operand, Slot, TensorId, Weights};
use crate::error::{ErrorKind, Result};

impl Elaborator<'_> {
    /// Runs a kind.
    pub(super) fn leaf(&mut self, m: &Module, kind: &str, given: Given<'_>, scope: &Scope, pos: Pos) -> Result<Value> {
        let x = match given.positional.first() {
            Some(Value::Slot(s)) => *s,
            other => {
                let found = other.map_or_else(|| "nothing".to_owned(), Value::shown);
                return Err(scope.source.error(pos, format!("'{}' ({kind}) needs a tensor, found {found}", m.path)));
            }
        };
        let args = KindArgs { m, kind, call: &given, scope, pos };
        match kind {
            "linear" | "unembed" => self.linear(m, kind, x, scope, pos),
            "embedding" => self.embedding(m, x, scope, pos),
            "rmsnorm" => self.rms_norm(&args, x),
            "layernorm" => self.layer_norm(&args, x),
            "rotary" => self.rotary(&args, x),
            "multilinear" => self.multilinear(&args, x),
            "switch" => self.switch(m, x, &given, scope, pos),
            "conv" => self.convolution(&args, x),
            "opaque" => self.opaque(&args),
            other => Err(self.unavailable("kind", other, scope, pos)),
        }
    }

    /// The tensors at `base`; `own` is where a bias may stand besides.
    pub(super) fn weights(&mut self, base: &str, own: &str, kind: &str, scope: &Scope, pos: Pos) -> Result<Weights> {
        let Some(weight) = self.tensor(&format!("{base}.weight")) else {
            let below: Vec<&str> =
                self.tensors.keys().filter(|k| k.starts_with(&format!("{base}."))).map(|k| &**k).collect();
            let there = if below.is_empty() {
                String::new()
            } else {
                format!(" (it has {})", below[..below.len().min(3)].join(", "))
            };
            let message = format!(
                "{kind} '{own}': the checkpoint has no tensor '{base}.weight'{there}; if it may be missing, declare it with '?'"
            );
            return Err(self.lacks(format!("{base}.weight"), scope, pos, message));
        };
        let scales = self.tensor(&format!("{base}.scales"));
        let biases = if scales.is_some() { self.tensor(&format!("{base}.biases")) } else { None };
        let bias = match self.tensor(&format!("{own}.bias")) {
            None => self.tensor(&format!("{base}.bias")),
            found => found,
        };
        self.own_tensors(own, [Some(weight), bias, scales, biases]);
        Ok(Weights { path: base.to_owned(), weight, bias, scales, biases })
    }

    /// Notes which tensors stand directly under a module.
    fn own_tensors(&mut self, path: &str, ids: impl IntoIterator<Item = Option<TensorId>>) {
        let prefix = format!("{path}.");
        let own: Vec<TensorId> =
            ids.into_iter().flatten().filter(|id| self.program.tensors[*id as usize].starts_with(&prefix)).collect();
        if let Some(node) = self.program.modules.iter_mut().rev().find(|n| n.path == path) {
            let new = own.into_iter().filter(|id| !node.tensors.contains(id)).collect::<Vec<_>>();
            node.tensors.extend(new);
        }
    }

    pub(super) fn shape(&self, id: TensorId) -> &[usize] {
        self.tensors.get(&self.program.tensors[id as usize]).map_or(&[], Vec::as_slice)
    }

    fn linear(&mut self, m: &Module, kind: &str, x: Slot, scope: &Scope, pos: Pos) -> Result<Value> {
        let tied = kind == "unembed" && !self.tensors.contains_key(&format!("{}.weight", m.path));
        let base = match m.args.first() {
            Some((_, Value::Text(path))) if tied => join(self.root, path),
            _ => m.path.clone(),
        };
        if tied && !self.tensors.contains_key(&format!("{base}.weight")) {
            let message = format!("the checkpoint has neither '{}.weight' nor '{base}.weight'", m.path);
            return Err(self.lacks(format!("{base}.weight"), scope, pos, message));
        }
        let mut weights = self.weights(&base, &m.path, kind, scope, pos)?;
        // A head's bias may stand elsewhere, or there as well: both are the same then.
        if let (Some((_, Value::Text(path))), "unembed") = (m.args.get(1), kind) {
            let elsewhere = self.tensor(&join(self.root, path));
            weights.bias = weights.bias.or(elsewhere);
        }
        let shape = self.shape(weights.weight).to_vec();
        if self.surveying && shape.is_empty() {
            let info = self.info[x as usize].changed().width(None);
            let step = Step { op: Op::Linear(weights), inputs: vec![x] };
            return Ok(Value::Slot(self.emit(step, vec![info], &m.path, scope, pos)?[0]));
        }
        let [rows, columns] = shape[..] else {
            let message = format!("'{base}.weight' has shape {shape:?}, a linear needs a matrix");
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        };
        let info = self.info[x as usize].clone();
        if let (Some(width), None) = (info.width, weights.scales)
            && width != columns
        {
            let message = format!("'{base}.weight' has shape {shape:?}, but its input has {width} features");
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        }
        let out_info = info.changed().width(Some(rows));
        let Some(attention) = info.merged.clone() else {
            let step = Step { op: Op::Linear(weights), inputs: vec![x] };
            return Ok(Value::Slot(self.emit(step, vec![out_info], &m.path, scope, pos)?[0]));
        };
        self.projection(&attention, weights, x, out_info, m, scope, pos)
    }

    /// The linear after an attention: its result has a second way, head by head.
    #[allow(clippy::too_many_arguments)]
    fn projection(
        &mut self,
        attention: &str,
        weights: Weights,
        x: Slot,
        out_info: SlotInfo,
        m: &Module,
        scope: &Scope,
        pos: Pos,
    ) -> Result<Value> {
        let (heads, width) = (self.info[x as usize].heads, out_info.width);
        let Some(n) = heads else {
            let step = Step { op: Op::Linear(weights), inputs: vec![x] };
            return Ok(Value::Slot(self.emit(step, vec![out_info], &m.path, scope, pos)?[0]));
        };
        // From the projection's own input, so that a write there counts on this way too.
        let split = Step { op: Op::Heads { n }, inputs: vec![x] };
        let z = self.emit(split, vec![SlotInfo::of(Layout::Heads).heads(heads)], attention, scope, pos)?[0];
        let each = Step { op: Op::HeadResult(weights.clone()), inputs: vec![z] };
        let info = SlotInfo::of(Layout::Heads).heads(heads).width(width);
        let result = self.emit(each, vec![info], attention, scope, pos)?[0];
        self.add_hook_with(&join(attention, "result"), result, Layout::Heads, true);
        let out = self.new_slot(out_info);
        let sum = Step { op: Op::HeadSum(weights.clone()), inputs: vec![result] };
        let instr = self.emit_into(sum, vec![out], attention, scope, pos)?;
        let step = Step { op: Op::Linear(weights), inputs: vec![x] };
        let linear = self.emit_into(step, vec![out], &m.path, scope, pos)?;
        self.program.slots[out as usize] = crate::core::arch::tape::Producer::Instr(linear);
        self.program.detours.push(Detour { slot: out, instr, inner: vec![result], on_read: false });
        Ok(Value::Slot(out))
    }

    fn embedding(&mut self, m: &Module, ids: Slot, scope: &Scope, pos: Pos) -> Result<Value> {
        let weights = self.weights(&m.path, &m.path, "embedding", scope, pos)?;
        let shape = self.shape(weights.weight);
        let [_, columns] = shape[..] else {
            let message = format!("'{}.weight' has shape {shape:?}, an embedding needs a matrix", m.path);
            return Err(scope.source.error_of(ErrorKind::Shape, pos, message));
        };
        let layout = match self.info[ids as usize].layout {
            Layout::Tokens => Layout::Hidden,
            _ => Layout::Other,
        };
        let width = if weights.scales.is_none() { Some(columns) } else { None };
        let step = Step { op: Op::Embedding(weights), inputs: vec![ids] };
        Ok(Value::Slot(self.emit(step, vec![SlotInfo::of(layout).width(width)], &m.path, scope, pos)?[0]))
    }

    fn rms_norm(&mut self, args: &KindArgs<'_>, x: Slot) -> Result<Value> {
        let (eps, offset) = (args.eps(self, None)?, args.number(self, "offset")?.unwrap_or(0.0));
        let info = self.info[x as usize].changed();
        let groups = args.whole(self, "groups")?;
        let Some((weight, shape)) = self.norm_weight(args)? else {
            let step = Step { op: Op::RmsNorm { weight: None, eps, offset: 0.0 }, inputs: vec![x] };
            return self.one(step, info, args);
        };
        if (shape.len() == 1 || self.surveying) && groups.is_none() {
            self.check_width(&shape, x, args)?;
            let info = shape.first().map_or(info.clone(), |n| info.width(Some(*n)));
            return self.one(
                Step { op: Op::RmsNorm { weight: Some(weight), eps, offset }, inputs: vec![x] },
                info,
                args,
            );
        }
        // One scale per head, or groups of features normalised apart: the scale comes afterwards.
        let mut at = x;
        if let Some(g) = groups {
            let step = Step { op: Op::Unflatten { axis: -1, shape: vec![g as i64, -1] }, inputs: vec![at] };
            at = self.emit(step, vec![SlotInfo::of(Layout::Other)], &args.m.path, args.scope, args.pos)?[0];
        }
        let norm = Step { op: Op::RmsNorm { weight: None, eps, offset: 0.0 }, inputs: vec![at] };
        at = self.emit(norm, vec![info.clone()], &args.m.path, args.scope, args.pos)?[0];
        if groups.is_some() {
            let step = Step { op: Op::Flatten { start: -2, end: -1 }, inputs: vec![at] };
            at = self.emit(step, vec![info.clone()], &args.m.path, args.scope, args.pos)?[0];
        }
        let at = self.scaled(at, weight, offset, info, args)?;
        Ok(Value::Slot(at))
    }

    /// `x * (w + offset)` for a weight that is no vector.
    fn scaled(&mut self, x: Slot, weight: TensorId, offset: f64, info: SlotInfo, args: &KindArgs<'_>) -> Result<Slot> {
        let (path, scope, pos) = (&args.m.path, args.scope, args.pos);
        let param = Step { op: Op::Param(weight), inputs: Vec::new() };
        let mut w = self.emit(param, vec![SlotInfo::of(Layout::Other)], path, scope, pos)?[0];
        if offset != 0.0 {
            let add = Op::Binary(Binary::Add, Operand::Slot(w), Operand::Number(offset));
            let step = Step { op: add, inputs: vec![w] };
            w = self.emit(step, vec![SlotInfo::of(Layout::Other)], path, scope, pos)?[0];
        }
        let mul = Op::Binary(Binary::Mul, Operand::Slot(w), Operand::Slot(x));
        Ok(self.emit(Step { op: mul, inputs: vec![w, x] }, vec![info], path, scope, pos)?[0])
    }

    fn layer_norm(&mut self, args: &KindArgs<'_>, x: Slot) -> Result<Value> {
        let (eps, offset) = (args.eps(self, Some(1e-5))?, args.number(self, "offset")?.unwrap_or(0.0));
        let info = self.info[x as usize].changed();
        let bias = self.tensor(&format!("{}.bias", args.m.path));
        let Some((weight, shape)) = self.norm_weight(args)? else {
            let step = Step { op: Op::LayerNorm { weight: None, bias, eps, offset: 0.0 }, inputs: vec![x] };
            return self.one(step, info, args);
        };
        self.own_tensors(&args.m.path, [bias]);
        if shape.len() == 1 || self.surveying {
            self.check_width(&shape, x, args)?;
            let info = shape.first().map_or(info.clone(), |n| info.width(Some(*n)));
            return self.one(
                Step { op: Op::LayerNorm { weight: Some(weight), bias, eps, offset }, inputs: vec![x] },
                info,
                args,
            );
        }
        let norm = Step { op: Op::LayerNorm { weight: None, bias: None, eps, offset: 0.0 }, inputs: vec![x] };
        let y = self.emit(norm, vec![info.clone()], &args.m.path, args.scope, args.pos)?[0];
        let y = self.scaled(y, weight, offset, info.clone(), args)?;
        let Some(bias) = bias else { return Ok(Value::Slot(y)) };
        let param = Step { op: Op::Param(bias), inputs: Vec::new() };
        let b = self.emit(param, vec![SlotInfo::of(Layout::Other)], &args.m.path, args.scope, args.pos)?[0];
        let add = Op::Binary(Binary::Add, Operand::Slot(y), Operand::Slot(b));
        self.one(Step { op: add, inputs: vec![y, b] }, info, args)
    }

    fn one(&mut self, step: Step, info: SlotInfo, args: &KindArgs<'_>) -> Result<Value> {
        Ok(Value::Slot(self.emit(step, vec![info], &args.m.path, args.scope, args.pos)?[0]))
    }

    /// A norm's weight and its shape; `affine=false` says that there is none.
    fn norm_weight(&mut self, args: &KindArgs<'_>) -> Result<Option<(TensorId, Vec<usize>)>> {
        if let Some(v) = args.get("affine")
            && !v.truth()
        {
            return Ok(None);
        }
        let w = self.weights_of_norm(args)?;
        Ok(Some((w, self.shape(w).to_vec())))
    }

    fn weights_of_norm(&mut self, args: &KindArgs<'_>) -> Result<TensorId> {
        let path = &args.m.path;
        match self.tensor(&format!("{path}.weight")) {
            Some(id) => {
                self.own_tensors(path, [Some(id)]);
                Ok(id)
            }
            None => {
                let message = format!(
                    "{} '{path}': the checkpoint has no tensor '{path}.weight'; if it may be missing, declare it with '?'",
                    args.kind
                );
                Err(self.lacks(format!("{path}.weight"), args.scope, args.pos, message))
            }
        }
    }

    fn check_width(&self, shape: &[usize], x: Slot, args: &KindArgs<'_>) -> Result<()> {
        match self.info[x as usize].width {
            Some(width) if shape != [width] && !self.surveying => {
                let message =
                    format!("'{}.weight' has shape {shape:?}, but its input has {width} features", args.m.path);
                Err(args.scope.source.error_of(ErrorKind::Shape, args.pos, message))
            }
            _ => Ok(()),
        }
    }
}
