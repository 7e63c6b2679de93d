//! Cells whose outcome the tape tells: the patch cannot be seen, or nothing else is left to restore.

use super::difference::Difference;
use crate::core::model::{Model, SiteId};

/// Which positions of a site the measure can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Last,
    All,
}

/// What the tape tells of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    seen: Seen,
    /// A position's value comes from its token alone.
    own: bool,
    /// Nothing else of the tokens comes to the logits.
    all: bool,
    /// Tokens never see what follows them.
    causal: bool,
}

/// What is known of a cell before it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// As if nothing were patched.
    Unpatched,
    /// As the run that the values come from.
    Restored,
    /// Nothing: it must be run.
    Open,
}

impl Facts {
    /// Of a site, for a measure of the last logits.
    pub fn of(model: &Model, site: SiteId) -> Self {
        let inner = model.inner();
        let slot = inner.slot(site);
        let seen = match (inner.reaches_output(slot), inner.reaches_other_positions(slot)) {
            (false, _) => Seen::Nothing,
            (true, false) => Seen::Last,
            (true, true) => Seen::All,
        };
        Self {
            seen,
            own: inner.is_of_its_token(slot),
            all: inner.is_all_the_output_needs(slot),
            causal: inner.is_causal(),
        }
    }

    /// Whether a patch at a position of a prompt of `length` tokens can change what is measured.
    pub fn matters(&self, difference: &Difference, position: usize, length: usize) -> bool {
        let differs = match (difference.in_place, self.own, self.causal) {
            (false, ..) => true,
            (_, true, _) => difference.tokens[position],
            (_, _, true) => difference.reaches(position),
            _ => true,
        };
        differs
            && match self.seen {
                Seen::Nothing => false,
                Seen::Last => position + 1 == length,
                Seen::All => true,
            }
    }

    /// What is known of a patch at positions; `whole` says that no head or neuron is left out.
    pub fn know(&self, difference: &Difference, positions: &[usize], length: usize, whole: bool) -> Known {
        let matters = |p: &usize| self.matters(difference, *p, length);
        if !positions.iter().any(matters) {
            return Known::Unpatched;
        }
        let rest_is_equal = || (0..length).filter(|p| !positions.contains(p)).all(|p| !matters(&p));
        match whole && self.all && difference.in_place && rest_is_equal() {
            true => Known::Restored,
            false => Known::Open,
        }
    }
}
