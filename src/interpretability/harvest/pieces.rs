//! A data set as rows to be run: documents to tokens, long ones in pieces, and how far one has come.

use super::options::{HarvestOptions, Long};
use crate::core::model::Model;
use crate::error::{Result, bail};
use crate::utils::Document;

/// Tokens that run together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub document: u64,
    /// Place of its first token in the document.
    pub first: usize,
    pub tokens: Vec<u32>,
}

/// How far a data set was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub documents: u64,
    pub pieces: u64,
    /// Of the bytes of all documents begun.
    pub fingerprint: Fingerprint,
}

/// FNV-1a, to tell whether a data set is the one it was; not a defence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    pub fn add(&mut self, document: &Document) {
        let bytes = document.bytes();
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(&bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

/// The pieces of documents, one after another.
pub(super) struct Pieces<'a, I> {
    model: &'a Model,
    options: &'a HarvestOptions,
    documents: I,
    place: Place,
    /// The document begun: its tokens.
    current: Option<Vec<u32>>,
}

impl<'a, I: Iterator<Item = Result<Document>>> Pieces<'a, I> {
    /// From where somebody stopped; `start` is the number of the first document given.
    pub fn from(model: &'a Model, options: &'a HarvestOptions, documents: I, start: u64, place: Place) -> Result<Self> {
        let mut all = Self { model, options, documents, place: place.clone(), current: None };
        if start > place.documents {
            bail!(
                InvalidArgument,
                "the documents begin with number {start}, but only {} are done: those between are missing",
                place.documents
            );
        }
        let mut seen = Fingerprint::default();
        for number in start..place.documents {
            let Some(document) = all.documents.next() else {
                bail!(
                    InvalidArgument,
                    "the data set ends with document {number}, {} of it are done already: it is not the one that was begun",
                    place.documents
                );
            };
            seen.add(&document?);
        }
        if place.pieces > 0 {
            let document = all.documents.next();
            let Some(document) = document.transpose()? else {
                bail!(InvalidArgument, "the data set ends before the document that was begun: it is another");
            };
            seen.add(&document);
            all.current = Some(all.tokens(&document, place.documents)?);
        }
        // Of documents that were not given again nothing is known.
        if start == 0 && seen != place.fingerprint {
            bail!(
                InvalidArgument,
                "the first {} documents are not those that were harvested: the data set changed; use a new folder",
                place.documents
            );
        }
        Ok(all)
    }

    /// How far it has come.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    fn tokens(&self, document: &Document, number: u64) -> Result<Vec<u32>> {
        let mut tokens = match document {
            Document::Text(text) => self.model.tokenizer()?.encode_prompt(text),
            Document::Tokens(ids) => Ok(ids.clone()),
        }
        .map_err(|e| e.context(format!("document {number}")))?;
        let vocabulary = self.model.vocab_size();
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocabulary) {
            bail!(
                InvalidArgument,
                "document {number}: token id {id} is out of range: the vocabulary has {vocabulary} tokens"
            );
        }
        if self.options.long == Long::Truncate {
            tokens.truncate(self.options.max_tokens);
        }
        Ok(tokens)
    }

    /// The next piece; none at the end.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(tokens) = &self.current {
                let first = self.place.pieces as usize * self.options.max_tokens;
                let stop = (first + self.options.max_tokens).min(tokens.len());
                let piece =
                    Piece { document: self.place.documents, first, tokens: tokens[first.min(stop)..stop].to_vec() };
                if stop >= tokens.len() {
                    self.current = None;
                    (self.place.documents, self.place.pieces) = (self.place.documents + 1, 0);
                } else {
                    self.place.pieces += 1;
                }
                // An empty document is done with, but is nothing to run.
                if !piece.tokens.is_empty() {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(document) = self.documents.next().transpose()? else { return Ok(None) };
            self.place.fingerprint.add(&document);
            self.current = Some(self.tokens(&document, self.place.documents)?);
        }
    }
}
