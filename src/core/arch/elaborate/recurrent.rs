//! Convolutions over time and recurrences. Each recurrence gives its last state a site of its own, `state`.

use super::kind_args::KindArgs;
use super::ops::Args;
use super::slots::SlotInfo;
use super::value::Value;
use super::{Elaborator, Scope, Step, join};
use crate::core::arch::tape::{Binary, Layout, Op, Operand, Recurrence, Slot};
use crate::error::{ErrorKind, Result};

/// Most taps of a convolution: each adds two nodes to the graph.
const MAX_TAPS: usize = 256;

impl Elaborator<'_> {
    /// `conv`: depthwise, causal, one row of taps a channel.
    pub(super) fn convolution(&mut self, args: &KindArgs<'_>, x: Slot) -> Result<Value> {
        let path = &args.m.path;
        let shape_error = |message: String| Err(args.scope.source.error_of(ErrorKind::Shape, args.pos, message));
        let weights = self.weights(path, path, args.kind, args.scope, args.pos)?;
        let shape = self.shape(weights.weight).to_vec();
        let channels = match shape[..] {
            [channels, taps, 1] if (1..=MAX_TAPS).contains(&taps) => channels,
            _ => {
                return shape_error(format!(
                    "'{path}.weight' has shape {shape:?}, a depthwise convolution needs [channels, taps, 1] with 1 to \
                     {MAX_TAPS} taps (see 'conv_layout' for torch's order)"
                ));
            }
        };
        let info = self.info[x as usize].changed();
        if let Some(width) = info.width.filter(|w| *w != channels) {
            return shape_error(format!("'{path}.weight' has {channels} channels, but its input has {width}"));
        }
        let step = Step { op: Op::Conv { weight: weights.weight, bias: weights.bias }, inputs: vec![x] };
        let out = info.width(Some(channels));
        Ok(Value::Slot(self.emit(step, vec![out], path, args.scope, args.pos)?[0]))
    }

    /// A recurrence: its values; beside them the state, which is remembered as it stands after writes.
    pub(super) fn recurrence(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let tensors = |this: &Self, names: &[&str]| -> Result<Vec<Slot>> {
            names.iter().map(|n| this.slot_of(a, n, scope)).collect()
        };
        let (kind, inputs, like) = match a.name {
            "ssd" => {
                let groups = match usize::try_from(self.whole_of(a, "groups", 1, scope)?) {
                    Ok(n) if n > 0 => n,
                    _ => return Err(self.wrong(a, "groups", scope, "'groups' of 'ssd' must be positive".to_owned())),
                };
                (Recurrence::Ssd { groups }, tensors(self, &["x", "dt", "A", "B", "C", "D"])?, 0)
            }
            "selective_scan" => (Recurrence::SelectiveScan, tensors(self, &["x", "dt", "A", "B", "C", "D"])?, 0),
            "gated_delta" => (Recurrence::GatedDelta, tensors(self, &["q", "k", "v", "g", "beta"])?, 2),
            "linear_scan" => (Recurrence::LinearScan, tensors(self, &["x", "a"])?, 0),
            "wkv7" => (Recurrence::Wkv7, tensors(self, &["r", "g", "k", "v", "a", "b"])?, 3),
            _ => {
                let decay = self.decays(a, scope)?;
                let scale = self.number_of(a, "scale", scope)?.unwrap_or(1.0);
                (Recurrence::Gla { decay, scale }, tensors(self, &["q", "k", "v"])?, 2)
            }
        };
        let out = self.info[inputs[like] as usize].changed();
        let path = scope.path.clone();
        let memory = self.program.instrs.len() as u32 + 1;
        let step = Step { op: Op::Recur { kind, memory }, inputs };
        let made = self.emit(step, vec![out, SlotInfo::of(Layout::Other)], &path, scope, a.pos)?;
        self.add_hook(&join(&path, "state"), made[1]);
        let step = Step { op: Op::Remember, inputs: vec![made[1]] };
        self.emit(step, vec![SlotInfo::of(Layout::Other)], &path, scope, a.pos)?;
        Ok(Value::Slot(made[0]))
    }

    /// The logarithm of each head's decay.
    fn decays(&self, a: &Args<'_>, scope: &Scope) -> Result<Vec<f64>> {
        let given = a.get("decay").cloned().unwrap_or(Value::None);
        let numbers = match &given {
            Value::List(l) => l.iter().map(|v| v.number().filter(|n| n.is_finite())).collect::<Option<Vec<f64>>>(),
            _ => None,
        };
        match numbers.filter(|n| !n.is_empty()) {
            Some(numbers) => Ok(numbers),
            None => {
                let message = format!("'decay' of 'gla' must be a list of numbers, found {}", given.shown());
                Err(self.wrong(a, "decay", scope, message))
            }
        }
    }

    /// `normalize_qk(q, k, scale)`: both to length one, `q` multiplied by `scale`, which is one over the square root of
    /// their width. `eps` joins the sum of squares; the norm at hand adds to their mean.
    pub(super) fn normalize_qk(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let scale = match self.number_of(a, "scale", scope)? {
            Some(s) if s > 0.0 => s,
            _ => {
                let message = "'scale' of 'normalize_qk' must be one over the square root of the width".to_owned();
                return Err(self.wrong(a, "scale", scope, message));
            }
        };
        let eps = self.number_of(a, "eps", scope)?.unwrap_or(1e-6) * scale * scale;
        let mut both = Vec::new();
        for (name, factor) in [("q", scale * scale), ("k", scale)] {
            let x = self.slot_of(a, name, scope)?;
            let info = self.info[x as usize].changed();
            let norm = Step { op: Op::RmsNorm { weight: None, eps, offset: 0.0 }, inputs: vec![x] };
            let unit = self.emit(norm, vec![info.clone()], &scope.path, scope, a.pos)?[0];
            let op = Op::Binary(Binary::Mul, Operand::Slot(unit), Operand::Number(factor));
            let step = Step { op, inputs: vec![unit] };
            both.push(Value::Slot(self.emit(step, vec![info], &scope.path, scope, a.pos)?[0]));
        }
        Ok(Value::list(both))
    }
}
