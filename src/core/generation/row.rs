//! One row of a generation: its tokens, its text, and why it ended.

use std::collections::BTreeSet;

use serde::Serialize;

use super::stop::StopStrings;
use crate::core::text::{TextStream, Tokenizer};
use crate::error::Result;

/// Why a row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It drew a token that ends a text.
    Eos,
    /// A stop string came up.
    Stop,
    /// It has as many tokens as were asked for.
    Length,
}

/// What one row drew in one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Text that is complete with it; often empty, never part of a character. The pieces of all steps are the row's text.
    pub text: String,
    /// Why the row ended with it, if it did.
    pub finish: Option<Finish>,
}

/// A row so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The tokens drawn, the one that ended the row included.
    pub tokens: Vec<u32>,
    /// Their text without special tokens, up to the stop string. Empty where the model has no tokenizer.
    pub text: String,
    /// Why it ended; none while it goes on.
    pub finish: Option<Finish>,
    /// The stop string that ended it, if one did.
    pub stop: Option<String>,
}

pub(super) struct Row {
    pub completion: Completion,
    stream: TextStream,
    stops: StopStrings,
}

/// When rows end.
pub(super) struct Ends {
    pub max_tokens: usize,
    pub stop: Vec<String>,
    pub eos: BTreeSet<u32>,
}

impl Row {
    pub fn new(prompt: &[u32], tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let stream = tokenizer.map(|t| TextStream::after(t, prompt)).transpose()?.unwrap_or_default();
        let completion =
            Completion { prompt: prompt.to_vec(), tokens: Vec::new(), text: String::new(), finish: None, stop: None };
        Ok(Self { completion, stream, stops: StopStrings::default() })
    }

    pub fn goes_on(&self) -> bool {
        self.completion.finish.is_none()
    }

    /// Takes one more token.
    pub fn push(&mut self, token: u32, ends: &Ends, tokenizer: Option<&Tokenizer>) -> Result<Drawn> {
        self.completion.tokens.push(token);
        let is_eos = ends.eos.contains(&token);
        let mut piece = match tokenizer {
            Some(t) if !is_eos => self.stream.push(t, token)?,
            _ => String::new(),
        };
        let mut finish = is_eos.then_some(Finish::Eos);
        if self.completion.tokens.len() == ends.max_tokens {
            finish.get_or_insert(Finish::Length);
        }
        if let Some(t) = tokenizer.filter(|_| finish.is_some()) {
            piece += &self.stream.finish(t)?;
        }
        let (mut text, stop) = self.stops.push(&ends.stop, &piece);
        if let Some(n) = stop {
            finish = Some(Finish::Stop);
            self.completion.stop = Some(ends.stop[n].clone());
        } else if finish.is_some() {
            text += &self.stops.finish();
        }
        self.completion.text += &text;
        self.completion.finish = finish;
        Ok(Drawn { token, text, finish })
    }
}
