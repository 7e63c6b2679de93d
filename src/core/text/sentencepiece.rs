//! A SentencePiece vocabulary (pieces and scores) as byte-pair merges.

use std::collections::HashMap;

use tokenizers::decoders::{
    DecoderWrapper, byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip,
};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};

use super::tokenizer::foreign;
use crate::error::Result;

/// The mark SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// SentencePiece's own limit for a piece is far below this; without a limit a hostile file could make the search for
/// merges quadratic in its size.
const LONGEST_PIECE: usize = 256;

/// The merges that give the pieces back, best first. `mergeable[i]` says whether piece `i` may come out of a merge:
/// control and byte tokens may not.
pub(super) fn merges(pieces: &[String], scores: &[f64], mergeable: &[bool]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().filter(|(i, _)| mergeable[*i]).map(|(i, p)| (p.as_str(), i)).collect();
    struct Merge<'a> {
        score: f64,
        left: &'a str,
        right: &'a str,
        lengths: (usize, usize),
    }
    let mut found: Vec<Merge> = Vec::new();
    for (i, piece) in pieces.iter().enumerate().filter(|(i, p)| mergeable[*i] && p.len() <= LONGEST_PIECE) {
        let length = piece.chars().count();
        let cuts = piece.char_indices().enumerate().skip(1).map(|(n, (at, _))| (n, piece.split_at(at)));
        let mut here: Vec<(usize, usize, Merge)> = cuts
            .filter_map(|(n, (left, right))| {
                let (a, b) = (*ids.get(left)?, *ids.get(right)?);
                Some((a, b, Merge { score: scores[i], left, right, lengths: (n, length - n) }))
            })
            .collect();
        here.sort_by_key(|(a, b, _)| (*a, *b));
        found.extend(here.into_iter().map(|(_, _, merge)| merge));
    }
    // SentencePiece joins the pair whose piece scores best; among cuts of one piece the order of ids decides.
    found.sort_by(|x, y| y.score.total_cmp(&x.score).then(y.lengths.cmp(&x.lengths)));
    found.into_iter().map(|m| (m.left.to_owned(), m.right.to_owned())).collect()
}

/// Spaces become marks, after one more in front of the text where the vocabulary was trained so.
pub(super) fn normalizer(prefix_space: bool) -> Result<NormalizerWrapper> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if prefix_space {
        steps.push(Prepend::new(SPACE.into()).into());
    }
    steps.push(Replace::new(" ", SPACE).map_err(foreign)?.into());
    Ok(Sequence::new(steps).into())
}

/// The way back: marks to spaces, bytes to characters, and the space in front taken off.
pub(super) fn decoder(prefix_space: bool) -> Result<DecoderWrapper> {
    let marks = Replace::new(SPACE, " ").map_err(foreign)?;
    let mut steps: Vec<DecoderWrapper> = vec![marks.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix_space {
        steps.push(Strip::new(' ', 1, 0).into());
    }
    Ok(Decoders::new(steps).into())
}
