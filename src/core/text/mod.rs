//! Text to token ids and back: `tokenizer.json` through the `tokenizers` crate, or the vocabulary inside a GGUF file.

mod directory;
mod gguf;
mod pre_tokenizer;
mod sentencepiece;
mod special;
mod tokenizer;

pub use special::SpecialTokens;
pub use tokenizer::Tokenizer;
