//! Operations that a few families need: heads that share a matrix apart, positions as numbers, ALiBi, learned
//! activations, tokens hashed together.

use super::kind_args::KindArgs;
use super::ops::Args;
use super::slots::SlotInfo;
use super::value::Value;
use super::{Elaborator, Scope, Step, functions};
use crate::core::arch::tape::{Layout, Op, Slot, Special};
use crate::error::{ErrorKind, Result};

impl Elaborator<'_> {
    /// A matrix for each head: `[.., heads, length, in]` to `[.., heads, length, out]`, or back with `transpose=false`.
    pub(super) fn multilinear(&mut self, args: &KindArgs<'_>, x: Slot) -> Result<Value> {
        let path = args.m.path.clone();
        let weights = self.weights(&path, &path, "multilinear", args.scope, args.pos)?;
        let transpose = args.get("transpose").is_none_or(|v| v.truth());
        let shape = self.shape(weights.weight).to_vec();
        let [heads, rows, columns] = shape[..] else {
            let message = format!("'{path}.weight' has shape {shape:?}, a multilinear needs [heads, rows, columns]");
            return Err(args.scope.source.error_of(ErrorKind::Shape, args.pos, message));
        };
        let (into, out) = if transpose { (columns, Some(rows)) } else { (rows, Some(columns)) };
        let packed = weights.scales.is_some();
        match self.info[x as usize].width {
            Some(width) if width != into && !(packed && transpose) => {
                let message = format!("'{path}.weight' has shape {shape:?}, but its input has {width} features");
                return Err(args.scope.source.error_of(ErrorKind::Shape, args.pos, message));
            }
            _ => {}
        }
        let info = SlotInfo::of(Layout::Heads).heads(Some(heads)).width(out.filter(|_| !packed || transpose));
        let step = Step { op: Op::MultiLinear { weights, transpose }, inputs: vec![x] };
        Ok(Value::Slot(self.emit(step, vec![info], &path, args.scope, args.pos)?[0]))
    }

    /// The operations of [`Special`].
    pub(super) fn special(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let slot = |this: &Self, name: &str| this.slot_of(a, name, scope);
        let other = SlotInfo::of(Layout::Other);
        let (op, inputs, info) = match a.name {
            "broadcast_heads" => {
                let (x, n) = (slot(self, "x")?, self.whole_of(a, "n", 0, scope)?);
                let n = self.positive(a, "n", n, scope)?;
                let info = self.info[x as usize].changed().heads(Some(n));
                (Special::BroadcastHeads { n }, vec![x], info)
            }
            "position_axis" => {
                let start = self.whole_of(a, "start", 0, scope)?;
                (Special::PositionAxis { start }, vec![slot(self, "x")?], other)
            }
            "reshape" => (Special::Reshape { shape: self.wholes(a, "shape", scope)? }, vec![slot(self, "x")?], other),
            "tile" => {
                let x = slot(self, "x")?;
                let reps = self.wholes(a, "reps", scope)?;
                let reps = reps.iter().map(|n| self.positive(a, "reps", *n, scope)).collect::<Result<Vec<_>>>()?;
                let mut info = self.info[x as usize].changed();
                if let [1, n, 1, 1] = reps[..] {
                    info.heads = info.heads.map(|h| h * n);
                } else {
                    info = other;
                }
                (Special::Tile { reps }, vec![x], info)
            }
            "alibi" => {
                let n = self.whole_of(a, "n", 0, scope)?;
                let n = self.positive(a, "n", n, scope)?;
                (Special::Alibi { slopes: functions::alibi_slopes(n) }, vec![slot(self, "x")?], other)
            }
            "xielu" => {
                let inputs = ["x", "alpha_p", "alpha_n", "beta", "eps"].map(|n| slot(self, n));
                let inputs = inputs.into_iter().collect::<Result<Vec<_>>>()?;
                let info = self.info[inputs[0] as usize].changed();
                (Special::XIelu, inputs, info)
            }
            "is_start" => (Special::IsStart, vec![slot(self, "x")?], other),
            "head_conv2" => {
                let inputs = vec![slot(self, "x")?, slot(self, "weight")?];
                let info = self.info[inputs[0] as usize].changed();
                (Special::HeadConv2, inputs, info)
            }
            _ => {
                let ids = slot(self, "ids")?;
                let [g, vocabulary, modulus] = [
                    self.whole_of(a, "g", 0, scope)?,
                    self.whole_of(a, "vocab", 0, scope)?,
                    self.whole_of(a, "m", 0, scope)?,
                ];
                if !(1..=64).contains(&g) || vocabulary < 1 || !(1..=1 << 40).contains(&modulus) {
                    let message = format!(
                        "ngram_ids needs 1 to 64 tokens, a vocabulary and a modulus, found {g}, {vocabulary}, {modulus}"
                    );
                    return Err(self.wrong(a, "g", scope, message));
                }
                let (g, info) = (g as usize, SlotInfo::of(Layout::Tokens));
                (Special::NGramIds { g, vocabulary, modulus }, vec![ids], info)
            }
        };
        self.single(Op::Special(op), inputs, info, scope, a.pos)
    }

    fn positive(&self, a: &Args<'_>, name: &str, n: i64, scope: &Scope) -> Result<usize> {
        match usize::try_from(n) {
            Ok(n) if (1..1 << 16).contains(&n) => Ok(n),
            _ => Err(self.wrong(a, name, scope, format!("expected a number from 1 to 65535, found {n}"))),
        }
    }
}
