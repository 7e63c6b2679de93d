//! Which tokens of a prompt a causal trace corrupts.

use serde::{Deserialize, Serialize};

use super::cells::numbered;
use crate::core::model::Model;
use crate::error::{Result, bail};

/// The subject of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    /// Its words, which stand in the prompt once: the tokens that have a part in them.
    Text(String),
    /// Its positions, negative from the prompt's end.
    Positions(Vec<i64>),
}

impl Subject {
    /// The positions it has in a prompt, upwards.
    pub(super) fn positions(&self, model: &Model, prompt: &[u32]) -> Result<Vec<usize>> {
        let words = match self {
            Subject::Positions(list) => {
                let mut at = numbered(list, prompt.len(), "position")?;
                at.sort_unstable();
                return Ok(at);
            }
            Subject::Text(words) => words.trim(),
        };
        let tokenizer = model.tokenizer()?;
        let texts = prompt.iter().map(|t| tokenizer.token_to_str(*t)).collect::<Result<Vec<_>>>()?;
        let whole = texts.concat();
        let found: Vec<usize> = whole.match_indices(words).map(|(at, _)| at).collect();
        let start = match (words.is_empty(), found.as_slice()) {
            (false, [start]) => *start,
            (true, _) | (_, []) => bail!(
                InvalidArgument,
                "the subject {words:?} does not stand in the prompt, whose tokens are {texts:?}: copy its words from there, or \
                 give positions"
            ),
            _ => bail!(
                InvalidArgument,
                "the subject {words:?} stands {} times in the prompt: give its positions",
                found.len()
            ),
        };
        let (mut at, mut positions) = (0, Vec::new());
        for (position, text) in texts.iter().enumerate() {
            // A token's leading space alone is no part of the words.
            let own = at + text.len() - text.trim_start().len();
            if own < start + words.len() && at + text.len() > start {
                positions.push(position);
            }
            at += text.len();
        }
        Ok(positions)
    }
}
