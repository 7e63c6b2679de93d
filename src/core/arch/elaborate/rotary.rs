//! Rotations: the kind `rotary` and the operation `rope`.

use serde_json::json;

use super::kind_args::KindArgs;
use super::value::Value;
use super::{Elaborator, Scope, Step};
use crate::core::arch::place::Pos;
use crate::core::arch::tape::{Op, Rope, Slot};
use crate::error::{Error, Result};

/// What a rotation needs, and how a mistake in an argument is reported.
pub(super) struct Rotary<'a> {
    pub dims: Value,
    pub base: Option<f64>,
    pub scaling: Option<Value>,
    pub interleaved: bool,
    pub max_pos: Option<f64>,
    pub scale: Option<f64>,
    pub fault: &'a dyn Fn(&Elaborator<'_>, &str, String) -> Error,
}

impl Elaborator<'_> {
    /// The kind; `dims = none` is no rotation at all.
    pub(super) fn rotary(&mut self, args: &KindArgs<'_>, x: Slot) -> Result<Value> {
        let dims = match args.get("dims") {
            None | Some(Value::None) => return Ok(Value::Slot(x)),
            Some(v) => v,
        };
        let interleaved = args.get("interleaved").or_else(|| args.get("traditional")).is_some_and(|v| v.truth());
        let parts = Rotary {
            dims,
            base: args.number(self, "base")?,
            scaling: args.get("scaling"),
            interleaved,
            max_pos: args.number(self, "max_pos")?,
            scale: args.number(self, "scale")?,
            fault: &|e, name, message| args.fault(e, name, &message),
        };
        self.rope(x, parts, &args.m.path, args.scope, args.pos)
    }

    /// Emits a rotation.
    pub(super) fn rope(&mut self, x: Slot, r: Rotary<'_>, path: &str, scope: &Scope, pos: Pos) -> Result<Value> {
        let info = self.info[x as usize].changed();
        let most = info.width.unwrap_or(1 << 20);
        let dims = match r.dims.integer().map(usize::try_from) {
            Some(Ok(d)) if d > 0 && d % 2 == 0 && d <= most => d,
            _ => {
                let limit = info.width.map_or_else(String::new, |w| format!(" up to the {w} features of a head"));
                let message = format!("expected an even number of dimensions{limit}, found {}", r.dims.shown());
                return Err((r.fault)(self, "dims", message));
            }
        };
        let base = r.base.unwrap_or(10000.0);
        if base <= 0.0 {
            return Err((r.fault)(self, "base", format!("expected a positive base, found {base}")));
        }
        let mut budget = 1 << 16;
        let mut scaling = match &r.scaling {
            None | Some(Value::None) => None,
            Some(v) => match v.to_json(&mut budget) {
                Some(json) if json.is_object() => Some(json),
                _ => {
                    let message = format!("expected an object as scaling, found {}", v.shown());
                    return Err((r.fault)(self, "scaling", message));
                }
            },
        };
        if let Some(s) = r.scale.filter(|s| *s != 1.0) {
            scaling = Some(json!({"type": "linear", "factor": 1.0 / s}));
        }
        let op = Op::Rope(Rope { dims, base, scaling, interleaved: r.interleaved, max_pos: r.max_pos });
        Ok(Value::Slot(self.emit(Step { op, inputs: vec![x] }, vec![info], path, scope, pos)?[0]))
    }
}
