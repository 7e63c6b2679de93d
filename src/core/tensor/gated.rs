//! State that only the holder of the gate may touch.

use std::cell::RefCell;

use super::engine::gate;
use crate::error::{Result, bail};

/// A value behind the gate. Any thread may ask for it; a call from inside a call on the same value is `Busy`.
pub struct Gated<T>(RefCell<T>);

// SAFETY: the cell is borrowed only while the gate is held, so by one thread at a time.
unsafe impl<T: Send> Sync for Gated<T> {}

impl<T> Gated<T> {
    /// Puts a value behind the gate.
    pub fn new(value: T) -> Self {
        Gated(RefCell::new(value))
    }

    /// Uses the value. `what` names it in the error of a re-entrant call.
    pub fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let _gate = gate();
        match self.0.try_borrow_mut() {
            Ok(mut value) => f(&mut value),
            Err(_) => bail!(Busy, "{what} is in the middle of a call: a hook must not use the run that called it"),
        }
    }
}
