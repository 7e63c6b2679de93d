//! Random tokens, repeated: the text on which induction heads show (Olsson et al. 2022).

use serde::{Deserialize, Serialize};

use super::scores::{HeadScores, head_scores};
use crate::core::model::Model;
use crate::core::tensor::{self, Dtype};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};

/// Random tokens, repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repeated {
    /// Rows, each with tokens of its own, run as one batch.
    pub rows: usize,
    /// Tokens of the sequence that is repeated, all different.
    pub length: usize,
    /// How often it stands there, at least twice.
    pub times: usize,
    /// Of the random choice.
    pub seed: u64,
}

impl Default for Repeated {
    fn default() -> Self {
        Self { rows: 8, length: 24, times: 2, seed: 0 }
    }
}

/// Rows of token ids: what the tokenizer puts before every text, then the sequence so many times. Special tokens and ids
/// without a token are not drawn.
pub fn repeated_tokens(model: &Model, options: &Repeated) -> Result<Vec<Vec<u32>>> {
    let Repeated { rows, length, times, seed } = *options;
    if rows == 0 || length < 2 || times < 2 {
        bail!(
            InvalidArgument,
            "{rows} rows of {length} tokens {times} times over: it takes a row, two tokens and two times at least"
        );
    }
    let tokenizer = model.tokenizer().ok();
    let before = tokenizer.map(|t| t.encode("", true)).transpose()?.unwrap_or_default();
    let eos = tokenizer.map(|t| t.eos_ids().clone()).unwrap_or_default();
    let before: Vec<u32> = before.into_iter().filter(|id| !eos.contains(id)).collect();
    let whole = before.len() + length * times;
    if let Some(limit) = model.context_length().filter(|c| whole > *c) {
        bail!(
            InvalidArgument,
            "{length} tokens {times} times over and {} before them are {whole}, the model's context has {limit}: ask for \
             fewer (length)",
            before.len()
        );
    }
    let special = tokenizer.map(|t| t.special_ids()).unwrap_or_default();
    let known = |id: &u32| tokenizer.is_none_or(|t| t.id_to_token(*id).is_ok());
    let words: Vec<u32> = (0..model.vocab_size() as u32).filter(|id| !special.contains(id) && known(id)).collect();
    if words.len() < length {
        bail!(
            InvalidArgument,
            "a sequence of {length} different tokens: there are only {} that are not special",
            words.len()
        );
    }
    // The order of random numbers is a random order.
    let numbers = tensor::random_normal(&[rows as i32, words.len() as i32], Dtype::Float32, seed)?;
    let order = tensor::cast(&tensor::argsort(&numbers, -1)?, Dtype::Uint32)?.to_vec::<u32>()?;
    let row = |order: &[u32]| {
        let sequence = order[..length].iter().map(|i| words[*i as usize]);
        before.iter().copied().chain(std::iter::repeat_n(sequence, times).flatten()).collect()
    };
    Ok(order.chunks(words.len()).map(row).collect())
}

/// [`head_scores`] on [`repeated_tokens`]: which heads look at the token before, at earlier copies of the token, at what
/// came after those, and so on. One forward pass over a batch.
pub fn detect_heads(model: &Model, options: &Repeated, trace: &TraceOptions) -> Result<HeadScores> {
    head_scores(model, repeated_tokens(model, options)?, trace)
}
