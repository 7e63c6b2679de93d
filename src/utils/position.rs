//! Which position of a text an analysis looks at.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Pick;
use crate::error::{Result, bail};

/// A position of every text. In JSON `"last"`, `"mean"`, `"answer"`, or a number, negative from each text's own end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Each text's own last token.
    #[default]
    Last,
    /// The mean over all, special tokens left out.
    Mean,
    /// Where the two texts of a pair first differ (the answer's letter in Rimsky et al. 2023).
    Answer,
    /// A number, negative from each text's own end.
    At(i64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Last => f.write_str("last"),
            Position::Mean => f.write_str("mean"),
            Position::Answer => f.write_str("answer"),
            Position::At(i) => write!(f, "{i}"),
        }
    }
}

impl std::str::FromStr for Position {
    type Err = crate::error::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "last" => Position::Last,
            "mean" => Position::Mean,
            "answer" => Position::Answer,
            number => match number.parse() {
                Ok(i) => Position::At(i),
                Err(_) => bail!(InvalidArgument, "no position '{text}': use last, mean, answer or a number"),
            },
        })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Position::At(i) => s.serialize_i64(*i),
            word => s.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a position is \"last\", \"mean\", \"answer\" or a whole number")]
        enum Written {
            Number(i64),
            Word(String),
        }
        match Written::deserialize(d)? {
            Written::Number(i) => Ok(Position::At(i)),
            Written::Word(word) => word.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Position {
    /// What it means in each of these texts. Errors: a number that a text is too short for, "answer", which only pairs have.
    pub fn pick(self, rows: &[Vec<u32>]) -> Result<Pick> {
        let at = |i: i64| {
            let one = |(r, row): (usize, &Vec<u32>)| {
                let n = row.len() as i64;
                match if i < 0 { i + n } else { i } {
                    p if (0..n).contains(&p) => Ok(p as usize),
                    _ => bail!(InvalidArgument, "text {r} has no position {i}: it has {n} tokens"),
                }
            };
            rows.iter().enumerate().map(one).collect::<Result<Vec<_>>>()
        };
        match self {
            Position::Last => at(-1).map(Pick::At),
            Position::At(i) => at(i).map(Pick::At),
            Position::Mean => Ok(Pick::Mean),
            Position::Answer => {
                bail!(InvalidArgument, "the position 'answer' is where the texts of a pair differ: use it with pairs")
            }
        }
    }
}
