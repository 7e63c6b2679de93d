//! How a byte-level vocabulary cuts text before merging, by the name GGUF files give it (`tokenizer.ggml.pre`).

use tokenizers::normalizers::{NormalizerWrapper, unicode::NFC};
use tokenizers::pre_tokenizers::{
    PreTokenizerWrapper, byte_level::ByteLevel, digits::Digits, sequence::Sequence, split::Split, split::SplitPattern,
};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use super::tokenizer::foreign;
use crate::error::{Result, bail};

/// What comes before the merges of one family of vocabularies.
pub(super) struct Family {
    names: &'static [&'static str],
    cut: Cut,
    /// Whether text is composed (NFC) first.
    nfc: bool,
    /// Whether a whole word found in the vocabulary is taken before any merge.
    pub(super) ignore_merges: bool,
    /// Whether a BOS token is added where the file does not say.
    pub(super) adds_bos: bool,
}

enum Cut {
    /// The pattern GPT-2 introduced, which the `tokenizers` crate has built in.
    Gpt2,
    /// Every digit alone, then GPT-2's pattern.
    DigitsThenGpt2,
    /// A pattern of its own.
    Pattern(&'static str),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const FAMILIES: [Family; 5] = [
    // "default" is also what a file without the key means: files from before it existed are GPT-2's descendants.
    Family {
        names: &["gpt-2", "default", "phi-2", "mpt", "olmo"],
        cut: Cut::Gpt2,
        nfc: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        cut: Cut::DigitsThenGpt2,
        nfc: false,
        ignore_merges: false,
        adds_bos: false,
    },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        cut: Cut::Pattern(LLAMA3),
        nfc: false,
        ignore_merges: true,
        adds_bos: true,
    },
    // The published Qwen tokenizers compose text first, though GGUF files cannot say so.
    Family {
        names: &["qwen2", "deepseek-r1-qwen"],
        cut: Cut::Pattern(QWEN2),
        nfc: true,
        ignore_merges: false,
        adds_bos: false,
    },
    Family { names: &["tekken"], cut: Cut::Pattern(TEKKEN), nfc: false, ignore_merges: true, adds_bos: true },
];

impl Family {
    /// The family called `name`.
    pub(super) fn named(name: &str) -> Result<&'static Self> {
        if let Some(family) = FAMILIES.iter().find(|f| f.names.contains(&name)) {
            return Ok(family);
        }
        let known: Vec<&str> = FAMILIES.iter().flat_map(|f| f.names).copied().collect();
        bail!(
            Unsupported,
            "pre-tokenizer {name:?} (tokenizer.ggml.pre) is not known; known are {}; use the model's Hugging Face \
             directory with tokenizer.json instead",
            known.join(", ")
        )
    }

    /// What text goes through before it is cut.
    pub(super) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.nfc.then(|| NFC.into())
    }

    /// What cuts the text and spells its bytes.
    pub(super) fn pre_tokenizer(&self) -> Result<PreTokenizerWrapper> {
        let bytes = |cut: bool| ByteLevel::new(false, true, cut).into();
        let steps: Vec<PreTokenizerWrapper> = match self.cut {
            Cut::Gpt2 => return Ok(bytes(true)),
            Cut::DigitsThenGpt2 => vec![Digits::new(true).into(), bytes(true)],
            Cut::Pattern(pattern) => {
                let pattern = SplitPattern::Regex(pattern.into());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(foreign)?;
                vec![split.into(), bytes(false)]
            }
        };
        Ok(Sequence::new(steps).into())
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Family::named("exotic").err().expect("no such family");
        assert!(error.message().contains("exotic") && error.message().contains("smollm"), "{error}");
    }

    #[test]
    fn every_family_cuts_where_the_reference_cuts() {
        let expected: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/fixtures/text/cuts.json")).unwrap();
        let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        for family in &FAMILIES {
            let name = family.names[0];
            let cutter = family.pre_tokenizer().unwrap();
            for (text, lengths) in texts.iter().zip(expected["families"][name].as_array().expect(name)) {
                let mut cut = PreTokenizedString::from(*text);
                cutter.pre_tokenize(&mut cut).unwrap();
                let found: Vec<usize> = cut
                    .get_splits(OffsetReferential::Original, OffsetType::Byte)
                    .into_iter()
                    .map(|(_, (start, end), _)| end - start)
                    .filter(|length| *length > 0)
                    .collect();
                let wanted: Vec<usize> =
                    lengths.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
                assert_eq!(found, wanted, "{name}: {text:?}");
            }
        }
    }
}
