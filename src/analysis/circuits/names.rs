//! Names of senders and receivers, as people write them and as circuits are stored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::graph::{Receiver, Sender};
use crate::error::{Error, Result, err};

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Embed => f.write_str("embed"),
            Sender::Head { layer, head } => write!(f, "a{layer}.h{head}"),
            Sender::Mlp { layer } => write!(f, "m{layer}"),
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Receiver::Query { layer, head } => write!(f, "a{layer}.h{head}.q"),
            Receiver::Key { layer, group } => write!(f, "a{layer}.g{group}.k"),
            Receiver::Value { layer, group } => write!(f, "a{layer}.g{group}.v"),
            Receiver::Mlp { layer } => write!(f, "m{layer}"),
            Receiver::Logits => f.write_str("logits"),
        }
    }
}

/// The number behind a letter.
fn numbered(part: &str, letter: char) -> Option<usize> {
    part.strip_prefix(letter)?.parse().ok()
}

impl FromStr for Sender {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let found = match parts.as_slice() {
            ["embed"] => Some(Sender::Embed),
            [mlp] => numbered(mlp, 'm').map(|layer| Sender::Mlp { layer }),
            [a, h] => numbered(a, 'a').zip(numbered(h, 'h')).map(|(layer, head)| Sender::Head { layer, head }),
            _ => None,
        };
        found.ok_or_else(|| err!(InvalidArgument, "'{text}' is no sender: it is embed, a head (a3.h2) or an MLP (m3)"))
    }
}

impl FromStr for Receiver {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let found = match parts.as_slice() {
            ["logits"] => Some(Receiver::Logits),
            [mlp] => numbered(mlp, 'm').map(|layer| Receiver::Mlp { layer }),
            [a, h, "q"] => numbered(a, 'a').zip(numbered(h, 'h')).map(|(layer, head)| Receiver::Query { layer, head }),
            [a, g, "k"] => numbered(a, 'a').zip(numbered(g, 'g')).map(|(layer, group)| Receiver::Key { layer, group }),
            [a, g, "v"] => {
                numbered(a, 'a').zip(numbered(g, 'g')).map(|(layer, group)| Receiver::Value { layer, group })
            }
            _ => None,
        };
        found.ok_or_else(|| {
            err!(
                InvalidArgument,
                "'{text}' is no receiver: it is a query (a3.h2.q), a group's keys or values (a3.g0.k, a3.g0.v), an MLP \
                 (m3) or logits"
            )
        })
    }
}

macro_rules! written_as_text {
    ($($name:ty),*) => { $(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(|e: Error| serde::de::Error::custom(e.message()))
            }
        }
    )* };
}

written_as_text!(Sender, Receiver);
