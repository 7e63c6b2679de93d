//! Modules whose computation is a function of the host: the tape only knows what goes in and what comes out.

use super::kind_args::KindArgs;
use super::slots::SlotInfo;
use super::value::Value;
use super::{Elaborator, Step};
use crate::core::arch::tape::{Layout, Op, Slot};
use crate::error::Result;

/// Most values that one function may make.
const MAX_OUTPUTS: usize = 64;

impl Elaborator<'_> {
    /// `name: opaque(outputs=2)`: one value when `outputs` is left out, else a list of them.
    pub(super) fn opaque(&mut self, args: &KindArgs<'_>) -> Result<Value> {
        let (m, scope, pos) = (args.m, args.scope, args.pos);
        let several = args.get("outputs").is_some();
        let n = args.whole(self, "outputs")?.unwrap_or(1);
        if n > MAX_OUTPUTS {
            return Err(args.fault(self, "outputs", &format!("{n} outputs; at most {MAX_OUTPUTS} are possible")));
        }
        let mut inputs = Vec::new();
        for (at, value) in args.call.positional.iter().enumerate() {
            let Value::Slot(slot) = value else {
                let message = format!("opaque '{}': argument {at} must be a tensor, found {}", m.path, value.shown());
                return Err(scope.source.error(pos, message));
            };
            inputs.push(match at {
                // The first input has its name from the call already.
                0 => *slot,
                // Never fresh: what goes in here keeps the name that it has elsewhere.
                _ => self.name_slot(&format!("{}.input.{at}", m.path), *slot, Slot::MAX),
            });
        }
        if let Some((name, _)) = args.call.named.iter().find(|(name, _)| name != "outputs") {
            return Err(scope
                .source
                .error(pos, format!("opaque '{}' takes its arguments without names, found '{name}'", m.path)));
        }
        // Axes as those of the first input, as far as anybody can know: the function may do anything.
        let like = self.info[inputs[0] as usize].layout;
        let layout = if like == Layout::Hidden { Layout::Hidden } else { Layout::Other };
        let infos = vec![SlotInfo::of(layout); n];
        let outputs = self.emit(Step { op: Op::Opaque, inputs }, infos, &m.path, scope, pos)?;
        if !several {
            return Ok(Value::Slot(outputs[0]));
        }
        let mut values = vec![Value::Slot(outputs[0])];
        for (at, slot) in outputs.iter().enumerate().skip(1) {
            values.push(Value::Slot(self.name_slot(&format!("{}.output.{at}", m.path), *slot, *slot)));
        }
        Ok(Value::list(values))
    }
}
