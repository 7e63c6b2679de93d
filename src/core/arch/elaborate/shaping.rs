//! Operations that only move axes about.

use super::ops::Args;
use super::slots::SlotInfo;
use super::value::Value;
use super::{Elaborator, Scope, Step};
use crate::core::arch::tape::{Layout, Op, Slot};
use crate::error::{ErrorKind, Result};

impl Elaborator<'_> {
    pub(super) fn shaping(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        match a.name {
            "heads" | "perhead" => return self.heads(a, scope),
            "split" => return self.split(a, scope),
            "concat" | "stack" | "cache" => return self.joining(a, scope),
            "transpose" => return self.transpose(a, scope),
            _ => {}
        }
        let x = self.slot_of(a, "x", scope)?;
        let info = self.info[x as usize].clone();
        let other = SlotInfo::of(Layout::Other);
        let whole = |this: &Self, name: &str, default: i64| this.whole_of(a, name, default, scope);
        let (op, out) = match a.name {
            "flip" => {
                let layout = match info.layout {
                    Layout::Heads => Layout::PerHead,
                    Layout::PerHead => Layout::Heads,
                    _ => Layout::Other,
                };
                let width = if layout == Layout::Other { None } else { info.width };
                (Op::Flip, SlotInfo { layout, width, ..info.changed() })
            }
            "merge" => {
                let width = info.width.zip(info.heads).map(|(w, n)| w * n);
                let merged = info.attend.clone();
                (Op::Merge, SlotInfo { layout: Layout::Hidden, width, merged, ..info.changed() })
            }
            "unflatten" => {
                let axis = whole(self, "axis", -1)?;
                let shape = self.wholes(a, "shape", scope)?;
                let out = match (info.layout, axis, &shape[..]) {
                    (Layout::Hidden, -1, [n, d]) => {
                        let length = |v: i64| usize::try_from(v).ok();
                        SlotInfo::of(Layout::PerHead).heads(length(*n)).width(length(*d))
                    }
                    _ => other,
                };
                (Op::Unflatten { axis, shape }, out)
            }
            "flatten" => {
                let (start, end) = (whole(self, "start", 0)?, whole(self, "end", -1)?);
                let out = match (info.layout, start, end) {
                    (Layout::PerHead, -2, -1) => {
                        SlotInfo::of(Layout::Hidden).width(info.width.zip(info.heads).map(|(w, n)| w * n))
                    }
                    _ => other,
                };
                (Op::Flatten { start, end }, out)
            }
            "swap" => (Op::Swap { a: whole(self, "a", 0)?, b: whole(self, "b", 0)? }, other),
            "repeat" => {
                let n = whole(self, "n", 1)?;
                let n = usize::try_from(n).ok().filter(|n| (1..1 << 16).contains(n)).ok_or_else(|| {
                    self.wrong(a, "n", scope, format!("expected how often to repeat, from 1 to 65535, found {n}"))
                })?;
                (Op::Repeat { n, axis: whole(self, "axis", 0)? }, other)
            }
            "expand" => (Op::Expand { axis: whole(self, "axis", -1)? }, other),
            _ => {
                let axis = whole(self, "axis", 0)?;
                let kept = if info.layout == Layout::Experts && axis == -2 { info.changed() } else { other };
                (Op::Squeeze { axis }, kept)
            }
        };
        self.single(op, vec![x], out, scope, a.pos)
    }

    /// A list of whole numbers.
    pub(super) fn wholes(&self, a: &Args<'_>, name: &str, scope: &Scope) -> Result<Vec<i64>> {
        let numbers = match a.get(name) {
            Some(Value::List(l)) => l.iter().map(Value::integer).collect::<Option<Vec<i64>>>(),
            _ => None,
        };
        numbers.filter(|n| !n.is_empty() && n.len() <= 1024).ok_or_else(|| {
            let found = a.get(name).map_or_else(|| "nothing".to_owned(), Value::shown);
            self.wrong(
                a,
                name,
                scope,
                format!("'{name}' of '{}' must be a list of whole numbers, found {found}", a.name),
            )
        })
    }

    /// `heads(x, n)` and `perhead(x, n)`: where an absurd number of heads shows itself.
    fn heads(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let x = self.slot_of(a, "x", scope)?;
        let info = self.info[x as usize].clone();
        let given = a.get("n").cloned().unwrap_or(Value::None);
        let n = given.integer().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let Some(n) = n else {
            let message = format!("expected a number of heads, a positive whole number, found {}", given.shown());
            return Err(self.wrong(a, "n", scope, message));
        };
        if let Some(width) = info.width.filter(|w| w % n != 0) {
            return Err(self.wrong(a, "n", scope, format!("{width} features cannot be split into {n} heads")));
        }
        let width = info.width.map(|w| w / n);
        let (op, layout) = match a.name {
            "heads" => (Op::Heads { n }, Layout::Heads),
            _ => (Op::PerHead { n }, Layout::PerHead),
        };
        let out = SlotInfo::of(layout).heads(Some(n)).width(width);
        self.single(op, vec![x], out, scope, a.pos)
    }

    fn split(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let x = self.slot_of(a, "x", scope)?;
        let axis = self.whole_of(a, "axis", -1, scope)?;
        let info = self.info[x as usize].changed();
        let width = if axis == -1 { info.width } else { None };
        let bad = |this: &Self, message: String| this.wrong(a, "sizes", scope, message);
        let sizes = match a.get("sizes") {
            Some(Value::List(_)) => {
                let sizes = self.wholes(a, "sizes", scope)?;
                let sizes: Option<Vec<usize>> = sizes.iter().map(|s| usize::try_from(*s).ok()).collect();
                sizes.ok_or_else(|| bad(self, "the sizes of 'split' must not be negative".to_owned()))?
            }
            other => match other.and_then(Value::integer) {
                Some(n) if (1..=1024).contains(&n) => vec![0; n as usize],
                _ => {
                    let found = other.map_or_else(|| "nothing".to_owned(), Value::shown);
                    return Err(bad(
                        self,
                        format!("expected how many parts, from 1 to 1024, or their sizes, found {found}"),
                    ));
                }
            },
        };
        let n = sizes.len();
        let equal = !matches!(a.get("sizes"), Some(Value::List(_)));
        if let Some(w) = width {
            if equal && w % n != 0 {
                return Err(bad(self, format!("{w} features cannot be split into {n} equal parts")));
            }
            let sum: usize = sizes.iter().fold(0, |s, x| s.saturating_add(*x));
            if !equal && sum != w {
                return Err(bad(self, format!("{w} features cannot be split into {sizes:?}, which are {sum}")));
            }
        }
        let part = |s: usize| match (axis, equal) {
            (-1, true) => info.clone().width(width.map(|w| w / n)),
            (-1, false) => info.clone().width(Some(s)),
            // Whole heads: each part has its own number of them.
            (1, _) if info.layout == Layout::Heads => {
                info.clone().heads(if equal { info.heads.map(|h| h / n) } else { Some(s) })
            }
            _ => SlotInfo { layout: Layout::Other, heads: None, ..info.clone() },
        };
        let outputs = sizes.iter().map(|s| part(*s)).collect();
        let op = Op::Split { sizes: if equal { Vec::new() } else { sizes }, axis };
        let path = scope.path.clone();
        let slots = self.emit(Step { op, inputs: vec![x] }, outputs, &path, scope, a.pos)?;
        Ok(Value::list(slots.into_iter().map(Value::Slot).collect()))
    }

    fn joining(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let mut inputs: Vec<Slot> = Vec::new();
        for v in &a.given.positional {
            match v {
                Value::Slot(s) => inputs.push(*s),
                other => {
                    let message = format!("'{}' needs tensors, found {}", a.name, other.shown());
                    return Err(scope.source.error(a.pos, message));
                }
            }
        }
        let infos: Vec<SlotInfo> = inputs.iter().map(|s| self.info[*s as usize].changed()).collect();
        let Some(first) = infos.first().cloned() else {
            return Err(scope.source.error(a.pos, format!("'{}' needs at least one tensor", a.name)));
        };
        if a.name == "cache" {
            let path = scope.path.clone();
            let slots = self.emit(Step { op: Op::Cache, inputs }, infos, &path, scope, a.pos)?;
            let mut values: Vec<Value> = slots.into_iter().map(Value::Slot).collect();
            return Ok(if values.len() == 1 { values.remove(0) } else { Value::list(values) });
        }
        let stack = a.name == "stack";
        let axis = self.whole_of(a, "axis", if stack { 0 } else { -1 }, scope)?;
        if stack {
            return self.single(Op::Stack { axis }, inputs, SlotInfo::of(Layout::Other), scope, a.pos);
        }
        let width = infos.iter().map(|i| i.width).sum::<Option<usize>>();
        let out = if axis == -1 { first.width(width) } else { SlotInfo::of(Layout::Other) };
        self.single(Op::Concat { axis }, inputs, out, scope, a.pos)
    }

    fn transpose(&mut self, a: &Args<'_>, scope: &Scope) -> Result<Value> {
        let Some((Value::Slot(x), axes)) = a.given.positional.split_first() else {
            return Err(scope.source.error(a.pos, "'transpose' needs a tensor and its axes in their new order"));
        };
        let axes: Option<Vec<usize>> = axes.iter().map(|v| v.integer().and_then(|i| usize::try_from(i).ok())).collect();
        let sorted = axes.clone().map(|mut s| {
            s.sort_unstable();
            s
        });
        match (axes, sorted) {
            (Some(axes), Some(sorted)) if !axes.is_empty() && sorted.iter().copied().eq(0..axes.len()) => {
                self.single(Op::Transpose { axes }, vec![*x], SlotInfo::of(Layout::Other), scope, a.pos)
            }
            _ => {
                let message = "'transpose' needs every axis once, counted from 0";
                Err(scope.source.error_of(ErrorKind::Description, a.pos, message))
            }
        }
    }
}
