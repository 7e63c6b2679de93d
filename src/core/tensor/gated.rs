//! State that only the holder of the gate may touch.

use std::cell::{Cell, RefCell};

use super::engine::gate;
use crate::error::{Result, bail};

/// A value behind the gate. Any thread may ask for it; a call from inside a call on the same value is `Busy`. A panic in a
/// call leaves it half-done: from then on every call is refused.
pub struct Gated<T> {
    value: RefCell<T>,
    poisoned: Cell<bool>,
}

/// Marks the value when a call does not come to its end.
struct Unfinished<'a>(&'a Cell<bool>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set(true);
        }
    }
}

// SAFETY: both cells are touched only while the gate is held, so by one thread at a time.
unsafe impl<T: Send> Sync for Gated<T> {}

impl<T> Gated<T> {
    /// Puts a value behind the gate.
    pub fn new(value: T) -> Self {
        Gated { value: RefCell::new(value), poisoned: Cell::new(false) }
    }

    /// Uses the value. `what` names it in the error of a re-entrant call.
    pub fn with<R>(&self, what: &str, f: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let _gate = gate();
        if self.poisoned.get() {
            bail!(Panic, "{what} was left half-done by a panic in an earlier call: free it and start another");
        }
        match self.value.try_borrow_mut() {
            Ok(mut value) => {
                let _unfinished = Unfinished(&self.poisoned);
                f(&mut value)
            }
            Err(_) => bail!(Busy, "{what} is in the middle of a call: a hook must not use the run that called it"),
        }
    }
}
