//! What a trace may be started on.

use serde::{Deserialize, Deserializer};

use crate::core::tensor::Array;

/// One prompt or several, as text or as token ids; for a model whose `Main` takes arrays, those.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// Text, for the model's tokenizer.
    Text(Vec<String>),
    /// Token ids, one list a row.
    Tokens(Vec<Vec<u32>>),
    /// The arrays that `Main` takes, in its order.
    Arrays(Vec<Array>),
}

impl From<&str> for Prompts {
    fn from(text: &str) -> Self {
        Prompts::Text(vec![text.to_owned()])
    }
}

impl From<&[&str]> for Prompts {
    fn from(texts: &[&str]) -> Self {
        Prompts::Text(texts.iter().map(|t| (*t).to_owned()).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Prompts {
    fn from(texts: [&str; N]) -> Self {
        texts.as_slice().into()
    }
}

impl From<Vec<String>> for Prompts {
    fn from(texts: Vec<String>) -> Self {
        Prompts::Text(texts)
    }
}

impl From<Vec<u32>> for Prompts {
    fn from(ids: Vec<u32>) -> Self {
        Prompts::Tokens(vec![ids])
    }
}

impl From<&[u32]> for Prompts {
    fn from(ids: &[u32]) -> Self {
        Prompts::Tokens(vec![ids.to_vec()])
    }
}

impl From<&Array> for Prompts {
    fn from(array: &Array) -> Self {
        Prompts::Arrays(vec![array.clone()])
    }
}

impl From<Vec<Array>> for Prompts {
    fn from(arrays: Vec<Array>) -> Self {
        Prompts::Arrays(arrays)
    }
}

impl From<Vec<Vec<u32>>> for Prompts {
    fn from(rows: Vec<Vec<u32>>) -> Self {
        Prompts::Tokens(rows)
    }
}

/// What JSON may say: a text, a list of texts, one prompt's token ids, or a list of those.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "prompts are a text, a list of texts, a list of token ids, or a list of lists of token ids"
)]
enum Written {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    Rows(Vec<Vec<u32>>),
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Prompts::Text(vec![text]),
            Written::Texts(texts) => Prompts::Text(texts),
            Written::Ids(ids) => Prompts::Tokens(vec![ids]),
            Written::Rows(rows) => Prompts::Tokens(rows),
        })
    }
}
