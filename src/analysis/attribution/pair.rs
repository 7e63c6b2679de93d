//! A clean and a corrupt prompt, token by token: what most attributions compare.

use crate::core::model::{Model, Prompts};
use crate::core::trace::Batch;
use crate::error::{Result, bail};

/// Clean prompts and as many corrupt ones, each as long as its partner.
pub(crate) struct Pair {
    pub clean: Batch,
    pub corrupt: Batch,
}

impl Pair {
    /// Tokenises both and compares their lengths.
    pub fn new(model: &Model, clean: Prompts, corrupt: Prompts) -> Result<Self> {
        let pair = Self { clean: model.batch(clean)?, corrupt: model.batch(corrupt)? };
        if !pair.clean.is_tokens() || !pair.corrupt.is_tokens() {
            bail!(Unsupported, "clean and corrupt prompts must be texts or token ids");
        }
        let (clean, corrupt) = (pair.clean.lengths(), pair.corrupt.lengths());
        if clean.len() != corrupt.len() {
            bail!(
                InvalidArgument,
                "{} clean prompts and {} corrupt ones: each clean prompt needs one corrupt partner",
                clean.len(),
                corrupt.len()
            );
        }
        if let Some(i) = (0..clean.len()).find(|i| clean[*i] != corrupt[*i]) {
            bail!(
                InvalidArgument,
                "prompt {i} has {} tokens clean and {} corrupt: values are compared position by position, so choose words \
                 of as many tokens",
                clean[i],
                corrupt[i]
            );
        }
        Ok(pair)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.clean.len()
    }

    /// The clean rows and after them the corrupt ones.
    pub fn both(&self, model: &Model) -> Result<Batch> {
        model.batch(self.clean.rows().iter().chain(self.corrupt.rows()).cloned().collect::<Vec<_>>())
    }
}

/// A label for each position of rows of tokens: their texts where there is one row and a tokenizer, else numbers.
pub(crate) fn labels(model: &Model, batch: &Batch) -> Result<Vec<String>> {
    let [row] = batch.rows() else { return Ok((0..batch.width()).map(|i| i.to_string()).collect()) };
    match model.tokenizer() {
        Ok(tokenizer) => row.iter().map(|t| tokenizer.token_to_str(*t)).collect(),
        Err(_) => Ok(row.iter().map(|t| t.to_string()).collect()),
    }
}
