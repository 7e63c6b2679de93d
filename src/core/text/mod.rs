//! Text to token ids and back: `tokenizer.json` through the `tokenizers` crate, or the vocabulary inside a GGUF file.

mod chat;
mod directory;
mod gguf;
mod pre_tokenizer;
mod python_json;
mod sentencepiece;
mod special;
mod stream;
mod tokenizer;

pub use special::SpecialTokens;
pub use stream::TextStream;
pub use tokenizer::Tokenizer;
