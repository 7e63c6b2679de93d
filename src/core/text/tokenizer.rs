//! The tokenizer: text in, ids out, and back.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tokenizers::processors::template::TemplateProcessing;

use super::chat::ChatTemplate;
use super::special::SpecialTokens;
use crate::error::{Error, Result, bail, err};

/// A model's tokenizer, its special tokens and its chat template.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    /// Ids that are left out of a text with special tokens skipped.
    unspoken: BTreeSet<u32>,
    chat: ChatTemplate,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).field("special", &self.special).finish()
    }
}

impl Tokenizer {
    /// Puts a tokenizer together; neither truncation nor padding survives, both belong to the caller of a trace.
    pub(super) fn new(mut inner: tokenizers::Tokenizer, special: SpecialTokens, chat: ChatTemplate) -> Result<Self> {
        inner.with_padding(None).with_truncation(None).map_err(foreign)?;
        let added = inner.get_added_tokens_decoder();
        let unspoken = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Ok(Self { inner, special, unspoken, chat })
    }

    /// The ids of `text`. `add_special` adds what the model's own rules put around a text (often a BOS token, often
    /// nothing); special tokens written out in the text become their ids either way.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|e| foreign(e).context("cannot encode"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a prompt as mlx-lm makes them: special tokens are added unless the prompt already begins with the
    /// BOS token.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let has_bos = self.special.bos_token.as_deref().is_some_and(|bos| prompt.starts_with(bos));
        self.encode(prompt, !has_bos)
    }

    /// [`encode`](Self::encode) for several texts, one row of ids each, not padded.
    pub fn encode_batch<T: AsRef<str>>(&self, texts: &[T], add_special: bool) -> Result<Vec<Vec<u32>>> {
        texts
            .iter()
            .enumerate()
            .map(|(i, t)| self.encode(t.as_ref(), add_special).map_err(|e| e.context(format!("text {i}"))))
            .collect()
    }

    /// The text of `ids`; `skip_special` leaves special tokens out. An id without a token is an error.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        // The crate drops unknown ids silently, which would hide an off-by-one in an analysis.
        for &id in ids {
            self.id_to_token(id)?;
        }
        self.inner.decode(ids, skip_special).map_err(|e| foreign(e).context("cannot decode"))
    }

    /// One token as readable text, special tokens included: `" Paris"`, not `"ĠParis"`. A token that is part of a
    /// character shows as U+FFFD.
    pub fn token_to_str(&self, id: u32) -> Result<String> {
        let piece = self.id_to_token(id)?;
        let text = self.decode(&[id], false)?;
        // SentencePiece decoders strip the space that leads a text; within a text this token does carry one.
        let led_by_space = piece.starts_with('\u{2581}') && !text.starts_with(' ');
        Ok(if led_by_space { format!(" {text}") } else { text })
    }

    /// The tokens of a prompt as readable text, one string for each id of [`encode_prompt`](Self::encode_prompt).
    pub fn to_str_tokens(&self, text: &str) -> Result<Vec<String>> {
        self.encode_prompt(text)?.into_iter().map(|id| self.token_to_str(id)).collect()
    }

    /// The token of `id` as the vocabulary spells it, such as `"ĠParis"`.
    pub fn id_to_token(&self, id: u32) -> Result<String> {
        self.inner.id_to_token(id).ok_or_else(|| {
            let size = self.vocab_size();
            match size {
                0 => err!(InvalidArgument, "token id {id} does not exist: the vocabulary is empty"),
                _ if (id as usize) < size => err!(InvalidArgument, "token id {id} is not used by this vocabulary"),
                _ => err!(
                    InvalidArgument,
                    "token id {id} is out of range: the vocabulary has {size} tokens, 0 to {}",
                    size - 1
                ),
            }
        })
    }

    /// Whether an id adds to a text from which special tokens are left out.
    pub(super) fn has_text(&self, id: u32) -> bool {
        !self.unspoken.contains(&id) && self.inner.id_to_token(id).is_some()
    }

    /// The id of a token spelled as in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How many tokens there are, added ones included. A model's embedding may be padded beyond it.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id that begins a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// All ids that end a text.
    pub fn eos_ids(&self) -> &BTreeSet<u32> {
        &self.special.eos
    }

    /// The id that fills short rows of a batch, if the model names one.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// All special tokens by role.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// The ids of all special tokens: those with a role, and those added as special, such as a chat's marks.
    pub fn special_ids(&self) -> BTreeSet<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let roles = [self.special.bos, self.special.pad, self.special.unk];
        let added = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id);
        added.chain(roles.into_iter().flatten()).chain(self.special.eos.iter().copied()).collect()
    }

    /// The chat template's source, as the model ships it.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat.source.as_deref()
    }

    /// A conversation as the model's chat template writes it, byte for byte as transformers' `apply_chat_template` does.
    ///
    /// `messages` is a list of objects with "role" and "content" (and whatever else the template reads, such as
    /// "tool_calls"); `add_generation_prompt` ends the text where the assistant's answer begins. `extra` are further
    /// names for the template, such as "tools", "documents" or "enable_thinking"; "chat_template" is another template
    /// to use. Encode the text without adding special tokens: the template wrote them.
    pub fn apply_chat_template(
        &self,
        messages: &Value,
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String> {
        self.chat.render(messages, add_generation_prompt, extra)
    }
}

/// Replaces what is put around a text: `bos` before it, `eos` behind it, each with its id.
pub(super) fn surround(
    inner: &mut tokenizers::Tokenizer,
    bos: Option<(&str, u32)>,
    eos: Option<(&str, u32)>,
) -> Result<()> {
    // `$` marks a placeholder in a template; no real model names its BOS or EOS so.
    if let Some((token, id)) = bos.iter().chain(&eos).find(|(t, _)| t.starts_with('$') || t.contains([' ', ':'])) {
        bail!(Unsupported, "special token {token:?} (id {id}) cannot be added around a text: it holds '$', ':' or ' '");
    }
    let mut single: Vec<String> = Vec::new();
    single.extend(bos.map(|(token, _)| format!("{token}:0")));
    single.push("$A:0".into());
    single.extend(eos.map(|(token, _)| format!("{token}:0")));
    let tokens: Vec<(String, u32)> = bos.iter().chain(&eos).map(|&(token, id)| (token.to_owned(), id)).collect();
    let processor = TemplateProcessing::builder()
        .try_single(single)
        .map_err(|e| err!(Unsupported, "special tokens around a text: {e}"))?
        .special_tokens(tokens)
        .build()
        .map_err(|e| err!(Unsupported, "special tokens around a text: {e}"))?;
    inner.with_post_processor(Some(processor));
    Ok(())
}

/// An error of the `tokenizers` crate.
pub(super) fn foreign(e: tokenizers::Error) -> Error {
    err!(InvalidArgument, "{e}")
}
