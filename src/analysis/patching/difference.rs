//! Where two runs of a pair can differ, as far as their tokens tell.

/// Where the patched run and the one the values come from can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Both have the same positions, each put in its own place.
    pub in_place: bool,
    /// Whether the token's own value differs, by position of the patched run.
    pub tokens: Vec<bool>,
    /// The first position at which anything can differ.
    pub first: usize,
}

impl Difference {
    /// Of two prompts and what is put where: (position patched, position it comes from).
    pub fn between(base: &[u32], source: &[u32], map: &[(usize, usize)]) -> Self {
        let in_place = base.len() == source.len() && map.iter().all(|(to, from)| to == from);
        if !in_place {
            return Self { in_place, tokens: vec![true; base.len()], first: 0 };
        }
        Self::at(base.iter().zip(source).map(|(b, s)| b != s).collect())
    }

    /// Of runs of the same tokens that differ at marked ones.
    pub fn at(tokens: Vec<bool>) -> Self {
        let first = tokens.iter().position(|d| *d).unwrap_or(tokens.len());
        Self { in_place: true, tokens, first }
    }

    /// Whether values that come from the tokens up to them can differ at a position.
    pub fn reaches(&self, position: usize) -> bool {
        position >= self.first
    }
}
