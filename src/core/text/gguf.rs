//! A tokenizer from the metadata of a GGUF file.

use std::collections::BTreeSet;

use tokenizers::AddedToken;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};

use super::chat::ChatTemplate;
use super::pre_tokenizer::Family;
use super::sentencepiece;
use super::special::SpecialTokens;
use super::tokenizer::{Tokenizer, foreign, surround};
use crate::core::weights::metadata::Metadata;
use crate::error::{Result, bail, err};

// The numbers of `tokenizer.ggml.token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

const WAY_OUT: &str = "use the model's Hugging Face directory with tokenizer.json instead";

impl Tokenizer {
    /// The tokenizer a GGUF file describes: byte-level (`gpt2`) or SentencePiece (`llama`) byte-pair encoding.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let kind = metadata.opt_str("tokenizer.ggml.model")?.ok_or_else(|| {
            err!(NotFound, "the GGUF file has no tokenizer (key tokenizer.ggml.model is missing); {WAY_OUT}")
        })?;
        match kind {
            "gpt2" => byte_level(metadata),
            "llama" => sentencepiece(metadata),
            _ => bail!(Unsupported, "tokenizer.ggml.model {kind:?} is neither \"gpt2\" nor \"llama\"; {WAY_OUT}"),
        }
    }
}

fn byte_level(metadata: &Metadata) -> Result<Tokenizer> {
    let family = Family::named(metadata.opt_str("tokenizer.ggml.pre")?.unwrap_or("default"))?;
    let words = Words::read(metadata)?;
    let mut merges = Vec::new();
    for (i, merge) in metadata.strs("tokenizer.ggml.merges")?.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ') else {
            bail!(Corrupt, "tokenizer.ggml.merges[{i}] {merge:?} is not two tokens with a space between");
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    let vocab = words.vocab()?;
    check_merges(&vocab, &merges)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(family.ignore_merges).build();
    let mut inner = tokenizers::Tokenizer::new(model.map_err(foreign)?);
    inner.with_normalizer(family.normalizer()).map_err(foreign)?;
    inner.with_pre_tokenizer(Some(family.pre_tokenizer()?));
    inner.with_decoder(Some(ByteLevel::default()));
    words.finish(metadata, inner, family.adds_bos, false)
}

fn sentencepiece(metadata: &Metadata) -> Result<Tokenizer> {
    let words = Words::read(metadata)?;
    let scores = metadata.floats("tokenizer.ggml.scores")?;
    if scores.len() != words.tokens.len() {
        bail!(
            Corrupt,
            "tokenizer.ggml.scores has {} entries, tokenizer.ggml.tokens {}",
            scores.len(),
            words.tokens.len()
        );
    }
    let mergeable: Vec<bool> = words.types.iter().map(|t| matches!(*t, NORMAL | USER_DEFINED)).collect();
    let merges = sentencepiece::merges(&words.tokens, scores, &mergeable);
    let mut model = BPE::builder().vocab_and_merges(words.vocab()?, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unknown) = words.id(metadata, "unknown")? {
        model = model.unk_token(words.tokens[unknown as usize].clone());
    }
    let prefix_space = metadata.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut inner = tokenizers::Tokenizer::new(model.build().map_err(foreign)?);
    inner.with_normalizer(Some(sentencepiece::normalizer(prefix_space)?)).map_err(foreign)?;
    inner.with_decoder(Some(sentencepiece::decoder(prefix_space)?));
    words.finish(metadata, inner, true, true)
}

/// The vocabulary of a file: tokens and their types, one for each id.
struct Words {
    tokens: Vec<String>,
    types: Vec<i64>,
}

impl Words {
    fn read(metadata: &Metadata) -> Result<Self> {
        let mut tokens = metadata.strs("tokenizer.ggml.tokens")?.to_vec();
        if tokens.is_empty() {
            bail!(Corrupt, "tokenizer.ggml.tokens is empty; {WAY_OUT}");
        }
        for (id, token) in tokens.iter_mut().enumerate().filter(|(_, t)| t.is_empty()) {
            // Some converters leave holes; each needs a name of its own to keep its id.
            *token = format!("[EMPTY_{id}]");
        }
        let types = match metadata.opt_ints("tokenizer.ggml.token_type")? {
            Some(types) => types,
            None => vec![NORMAL; tokens.len()],
        };
        if types.len() != tokens.len() {
            bail!(
                Corrupt,
                "tokenizer.ggml.token_type has {} entries, tokenizer.ggml.tokens {}",
                types.len(),
                tokens.len()
            );
        }
        Ok(Self { tokens, types })
    }

    fn vocab(&self) -> Result<Vocab> {
        let size = u32::try_from(self.tokens.len()).map_err(|_| err!(Corrupt, "tokenizer.ggml.tokens is too long"))?;
        let mut vocab = Vocab::with_capacity(self.tokens.len());
        for (id, token) in (0..size).zip(&self.tokens) {
            if let Some(first) = vocab.insert(token.clone(), id) {
                bail!(Corrupt, "tokenizer.ggml.tokens: {token:?} has two ids, {first} and {id}");
            }
        }
        Ok(vocab)
    }

    /// The id under `tokenizer.ggml.<role>_token_id`.
    fn id(&self, metadata: &Metadata, role: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        match metadata.opt_usize(&key)? {
            None => Ok(None),
            Some(id) if id < self.tokens.len() => Ok(Some(id as u32)),
            Some(id) => bail!(Corrupt, "{key} is {id}, but the vocabulary has {} tokens", self.tokens.len()),
        }
    }

    /// Adds the special tokens and what stands around a text.
    fn finish(
        &self,
        metadata: &Metadata,
        mut inner: tokenizers::Tokenizer,
        adds_bos: bool,
        unknown_is_special: bool,
    ) -> Result<Tokenizer> {
        let added = self.tokens.iter().zip(&self.types).filter_map(|(token, kind)| match *kind {
            CONTROL => Some(AddedToken::from(token.as_str(), true).normalized(false)),
            UNKNOWN if unknown_is_special => Some(AddedToken::from(token.as_str(), true).normalized(false)),
            USER_DEFINED => Some(AddedToken::from(token.as_str(), false).normalized(false)),
            _ => None,
        });
        inner.add_tokens(added).map_err(foreign)?;

        let bos = self.id(metadata, "bos")?;
        let eos = self.id(metadata, "eos")?;
        let flag = |key: &str, default| Ok::<_, crate::Error>(metadata.opt_bool(key)?.unwrap_or(default));
        let with_text =
            |id: Option<u32>, wanted: bool| id.filter(|_| wanted).map(|id| (self.tokens[id as usize].as_str(), id));
        let before = with_text(bos, flag("tokenizer.ggml.add_bos_token", adds_bos)?);
        let behind = with_text(eos, flag("tokenizer.ggml.add_eos_token", false)?);
        if before.is_some() || behind.is_some() {
            surround(&mut inner, before, behind)?;
        }

        let mut ends = BTreeSet::from_iter(eos);
        ends.extend(self.id(metadata, "eot")?);
        let special = SpecialTokens {
            bos_token: bos.map(|id| self.tokens[id as usize].clone()),
            bos,
            eos: ends,
            pad: self.id(metadata, "padding")?,
            unk: self.id(metadata, "unknown")?,
        };
        let roles =
            [("bos_token", special.bos), ("eos_token", eos), ("pad_token", special.pad), ("unk_token", special.unk)];
        let named = |(role, id): (&str, Option<u32>)| Some((role.to_owned(), self.tokens[id? as usize].clone()));
        let chat = ChatTemplate {
            source: metadata.opt_str("tokenizer.chat_template")?.map(str::to_owned),
            tokens: roles.into_iter().filter_map(named).collect(),
        };
        Tokenizer::new(inner, special, chat)
    }
}

/// Every merge must join tokens of the vocabulary into one of the vocabulary; the crate relies on it.
fn check_merges(vocab: &Vocab, merges: &[(String, String)]) -> Result<()> {
    for (i, (left, right)) in merges.iter().enumerate() {
        let joined = format!("{left}{right}");
        if let Some(stranger) = [left, right, &joined].into_iter().find(|t| !vocab.contains_key(t.as_str())) {
            bail!(Corrupt, "tokenizer.ggml.merges[{i}] needs {stranger:?}, which is not in tokenizer.ggml.tokens");
        }
    }
    Ok(())
}
