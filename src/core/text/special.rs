//! Which tokens begin, end and pad a text, read from the files beside `tokenizer.json`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// The tokens with a role of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The token that begins a text.
    pub bos_token: Option<String>,
    /// Its id.
    pub bos: Option<u32>,
    /// Ids of all tokens that end a text: the tokenizer's own and those the model's settings name.
    pub eos: BTreeSet<u32>,
    /// The token that fills short rows of a batch.
    pub pad: Option<u32>,
    /// The token that stands for what cannot be encoded.
    pub unk: Option<u32>,
}

/// The names under which settings files keep a token with a role.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token as settings files write it: its text, or an object with the text and how it is matched.
pub(super) fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    match value {
        Value::String(text) => Some(AddedToken::from(text.as_str(), special).normalized(false)),
        Value::Object(fields) => {
            let text = fields.get("content")?.as_str()?;
            let flag = |name: &str, default| fields.get(name).and_then(Value::as_bool).unwrap_or(default);
            let token = AddedToken::from(text, flag("special", special));
            let token = token.single_word(flag("single_word", false)).normalized(flag("normalized", false));
            Some(token.lstrip(flag("lstrip", false)).rstrip(flag("rstrip", false)))
        }
        _ => None,
    }
}

/// Ids under `key`: one number or a list of numbers; anything else (also null) is no id.
pub(super) fn ids(settings: &Map<String, Value>, key: &str) -> Option<BTreeSet<u32>> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match settings.get(key)? {
        Value::Array(list) => Some(list.iter().filter_map(one).collect()),
        value => one(value).map(|id| BTreeSet::from([id])),
    }
}
