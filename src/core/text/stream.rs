//! Text as it grows token by token, without ever showing part of a character.

use super::Tokenizer;
use crate::error::Result;

/// Turns a growing list of tokens into text that only grows.
///
/// What a token says depends on its neighbours: a character may be spread over several tokens, and some tokenizers strip
/// the space that leads a text. So each new token is decoded behind a few earlier ones, and what ends in part of a
/// character waits. Special tokens and ids that the vocabulary does not use have no text.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    /// Tokens that still matter for the text of later ones.
    window: Vec<u32>,
    /// Up to here the window's text was complete.
    complete: usize,
    /// Bytes of the window's text that were handed out.
    sent: usize,
}

/// More tokens of a prompt than this never change the text behind them.
const CONTEXT: usize = 8;

impl TextStream {
    /// The text of what follows a prompt: behind a word " Paris" keeps its space, behind a special token it is the
    /// beginning of a text.
    pub fn after(tokenizer: &Tokenizer, prompt: &[u32]) -> Result<Self> {
        let own = prompt.iter().rev().take(CONTEXT).take_while(|id| tokenizer.has_text(**id)).count();
        let window = prompt[prompt.len() - own..].to_vec();
        // What the prompt left incomplete is shown once it is complete.
        let sent = tokenizer.decode(&window, true)?.trim_end_matches('\u{FFFD}').len();
        Ok(Self { complete: window.len(), window, sent })
    }

    /// The text that is complete with one more token; often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        if !tokenizer.has_text(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = tokenizer.decode(&self.window, true)?;
        let known = text.trim_end_matches('\u{FFFD}');
        let new = self.hand_out(known);
        if known.len() == text.len() {
            // Complete: all that later tokens need is what came since it was complete before.
            self.window.drain(..self.complete);
            self.complete = self.window.len();
            self.sent = tokenizer.decode(&self.window, true)?.len();
        }
        Ok(new)
    }

    /// What was kept back and will not become complete any more.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.window, true)?;
        Ok(self.hand_out(&text))
    }

    fn hand_out(&mut self, text: &str) -> String {
        let new = text.get(self.sent..).unwrap_or_default().to_owned();
        self.sent = self.sent.max(text.len());
        new
    }
}
