//! One step of a generation: a trace that can be read and written until its tokens are drawn.

use std::sync::{Arc, OnceLock};

use super::{Drawn, Generation};
use crate::core::trace::Trace;
use crate::error::{Result, bail};

/// What each row drew; none for rows that had ended before.
pub(super) type Draw = Arc<OnceLock<Vec<Option<Drawn>>>>;

/// A step: step 0 runs over the prompts, each later one over the tokens drawn before it. Cloning shares it.
#[derive(Clone)]
pub struct Step {
    pub(super) number: usize,
    pub(super) trace: Trace,
    pub(super) drawn: Draw,
    pub(super) generation: Generation,
}

impl Step {
    /// Its number, 0 for the prompts.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The run over its tokens. Rows that ended earlier have length 0 in it.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The token of each row with its text, drawn now unless it was drawn already; none for rows that had ended. From
    /// here on, writes to the trace come too late.
    pub fn draw(&self) -> Result<&[Option<Drawn>]> {
        if self.drawn.get().is_none() {
            self.generation.draw_step(self.number)?;
        }
        match self.drawn.get() {
            Some(drawn) => Ok(drawn),
            None => bail!(InvalidArgument, "step {} drew nothing: the generation failed or was dropped", self.number),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("number", &self.number).field("drawn", &self.drawn.get()).finish()
    }
}
