//! `attend`: the fused kernel, and beside it the explicit way through scores and pattern.

use super::ops::Args;
use super::slots::SlotInfo;
use super::value::Value;
use super::{Elaborator, Scope, Step, join};
use crate::core::arch::tape::{Attention, Detour, Layout, Op, Producer, Slot};
use crate::error::{ErrorKind, Result};

impl Elaborator<'_> {
    pub(super) fn attend(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let [q, k, v] = [self.slot_of(a, "q", scope)?, self.slot_of(a, "k", scope)?, self.slot_of(a, "v", scope)?];
        let infos = [q, k, v].map(|s| self.info[s as usize].clone());
        if let Some(i) = infos.iter().find(|i| matches!(i.layout, Layout::Hidden | Layout::PerHead | Layout::Tokens)) {
            let message =
                format!("'attend' needs [batch, head, position, feature] (see heads, flip), found {:?}", i.layout);
            return Err(scope.source.error_of(ErrorKind::Shape, a.pos, message));
        }
        self.check_heads(a, &infos, scope)?;
        let scale = match (self.number_of(a, "scale", scope)?, infos[0].width) {
            (Some(s), _) => s,
            (None, Some(d)) => (d as f64).powf(-0.5),
            (None, None) => return Err(self.wrong(a, "scale", scope, "'attend' needs its 'scale' here".to_owned())),
        };
        let spec = Attention {
            scale,
            window: self.tokens(a, "window", scope)?,
            chunk: self.tokens(a, "chunk", scope)?,
            softcap: self.number_of(a, "softcap", scope)?.filter(|c| *c != 0.0),
            causal: a.get("causal").is_none_or(Value::truth),
            f32: a.get("f32").is_some_and(Value::truth),
            sinks: self.optional_slot(a, "sinks", scope)?,
            bias: self.optional_slot(a, "bias", scope)?,
            mask: self.optional_slot(a, "extra_mask", scope)?,
        };
        let path = scope.path.clone();
        let extras: Vec<Slot> = [spec.sinks, spec.bias, spec.mask].into_iter().flatten().collect();
        let with = |first: &[Slot]| first.iter().chain(&extras).copied().collect::<Vec<Slot>>();

        let heads = infos[0].heads;
        let info = SlotInfo::of(Layout::Scores).heads(heads);
        let step = Step { op: Op::AttendScores(spec), inputs: with(&[q, k]) };
        let scores = self.emit(step, vec![info.clone()], &path, scope, a.pos)?[0];
        self.add_hook_with(&join(&path, "scores"), scores, Layout::Scores, true);
        let step = Step { op: Op::AttendPattern(spec), inputs: with(&[scores]) };
        let pattern = self.emit(step, vec![info], &path, scope, a.pos)?[0];
        self.add_hook_with(&join(&path, "pattern"), pattern, Layout::Scores, true);

        let mut info = SlotInfo::of(Layout::Heads).heads(heads).width(infos[2].width);
        info.attend = Some(path.clone());
        let z = self.new_slot(info);
        let mix = Step { op: Op::AttendMix(spec), inputs: vec![pattern, v] };
        let instr = self.emit_into(mix, vec![z], &path, scope, a.pos)?;
        let fused = Step { op: Op::Attend(spec), inputs: with(&[q, k, v]) };
        let fused = self.emit_into(fused, vec![z], &path, scope, a.pos)?;
        self.program.slots[z as usize] = Producer::Instr(fused);
        self.program.detours.push(Detour { slot: z, instr, inner: vec![scores, pattern], on_read: true });
        Ok(Value::Slot(z))
    }

    fn check_heads(&self, a: &Args<'_>, infos: &[SlotInfo; 3], scope: &Scope) -> Result<()> {
        let shape = |message: String| Err(scope.source.error_of(ErrorKind::Shape, a.pos, message));
        if let (Some(q), Some(k)) = (infos[0].width, infos[1].width)
            && q != k
        {
            return shape(format!("queries of {q} features do not meet keys of {k}"));
        }
        match (infos[0].heads, infos[1].heads, infos[2].heads) {
            (_, Some(k), Some(v)) if k != v => shape(format!("{k} key heads and {v} value heads")),
            (Some(q), Some(k), _) if q % k != 0 => shape(format!("{q} query heads cannot share {k} key heads")),
            _ => Ok(()),
        }
    }

    /// A number of tokens.
    fn tokens(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<Option<usize>> {
        match a.get(name) {
            None | Some(Value::None) => Ok(None),
            Some(v) => match v.integer() {
                Some(n) if (1..=1 << 30).contains(&n) => Ok(Some(n as usize)),
                _ => {
                    let message =
                        format!("'{name}' of 'attend' must be a positive number of tokens, found {}", v.shown());
                    Err(self.wrong(a, name, scope, message))
                }
            },
        }
    }

    fn optional_slot(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<Option<Slot>> {
        match a.get(name) {
            None | Some(Value::None) => Ok(None),
            Some(_) => self.slot_of(a, name, scope).map(Some),
        }
    }
}
