//! Conversations as prompts.

use serde_json::{Map, Value};

use crate::core::model::{Model, Prompts};
use crate::core::trace::Batch;
use crate::error::Result;

impl Model {
    /// Conversations as a batch, one row each, up to where the assistant's answer begins. Each is a list of messages;
    /// see [`Tokenizer::apply_chat_template`](crate::core::text::Tokenizer::apply_chat_template) for these and for `extra`.
    pub fn chat(&self, conversations: &[Value], extra: &Map<String, Value>) -> Result<Batch> {
        let tokenizer = self.tokenizer()?;
        let row = |(i, messages): (usize, &Value)| {
            let ids =
                tokenizer.apply_chat_template(messages, true, extra).and_then(|text| tokenizer.encode(&text, false));
            ids.map_err(|e| if conversations.len() > 1 { e.context(format!("conversation {i}")) } else { e })
        };
        let rows = conversations.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
        self.batch(Prompts::Tokens(rows))
    }
}
