//! What a run is given: the parameters of `Main`.

use super::Elaborator;
use super::slots::SlotInfo;
use super::value::Value;
use crate::core::arch::ast::Block;
use crate::core::arch::tape::{Layout, Producer, Slot};
use crate::error::Result;

/// The parameter that means token ids; any other name means an array.
const TOKENS: &str = "ids";

impl Elaborator<'_> {
    /// A slot and a site for each parameter of `Main`: `ids` stands alone and means token ids, others are arrays
    /// `[batch, …, feature]` under their own names.
    pub(super) fn inputs(&mut self, main: &Block) -> Result<Vec<Value>> {
        let names: Vec<String> = match main.params.len() {
            0 => vec![TOKENS.to_owned()],
            _ => main.params.clone(),
        };
        if names.len() > 1 && names.iter().any(|n| n == TOKENS) {
            let message =
                format!("Main takes '{TOKENS}' alone, or arrays under other names; found {}", names.join(", "));
            return Err(main.source.error(main.pos, message));
        }
        let mut values = Vec::new();
        for name in names {
            let slot = self.program.slots.len() as Slot;
            self.program.slots.push(Producer::Input);
            self.info.push(SlotInfo::of(if name == TOKENS { Layout::Tokens } else { Layout::Hidden }));
            self.add_hook(&name, slot);
            self.program.inputs.push(name);
            values.push(Value::Slot(slot));
        }
        Ok(values)
    }
}
