//! The handles that are alive, by address: a freed or foreign pointer is an error, not undefined behaviour.

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use crate::error::{Result, bail};

/// A type that goes out as an opaque handle.
pub(super) trait Handle {
    /// Its noun, for messages.
    const NOUN: &'static str;
}

static ALIVE: RwLock<Option<FxHashMap<usize, &'static str>>> = RwLock::new(None);

/// Gives an object to the caller as a handle.
pub(super) fn give<T: Handle>(value: T) -> *mut T {
    let handle = Box::into_raw(Box::new(value));
    ALIVE.write().get_or_insert_default().insert(handle as usize, T::NOUN);
    handle
}

/// Looks at the object behind a handle.
pub(super) fn borrow<'a, T: Handle>(handle: *const T) -> Result<&'a T> {
    if handle.is_null() {
        bail!(InvalidArgument, "the {} is NULL", T::NOUN);
    }
    match ALIVE.read().as_ref().and_then(|alive| alive.get(&(handle as usize)).copied()) {
        // SAFETY: alive and of this type; freeing a handle while another thread uses it is the caller's breach.
        Some(noun) if noun == T::NOUN => Ok(unsafe { &*handle }),
        Some(noun) => bail!(InvalidArgument, "a {} handle was given where a {} is wanted", noun, T::NOUN),
        None => bail!(InvalidArgument, "the {} was freed, or was never a handle of this library", T::NOUN),
    }
}

/// Takes a handle back. NULL and unknown pointers are ignored: they own nothing here.
pub(super) fn take<T: Handle>(handle: *mut T) -> Option<T> {
    let mut alive = ALIVE.write();
    let alive = alive.as_mut()?;
    if alive.get(&(handle as usize)) != Some(&T::NOUN) {
        return None;
    }
    alive.remove(&(handle as usize));
    // SAFETY: made by `give`, alive until the line above.
    Some(*unsafe { Box::from_raw(handle) })
}

/// Number of handles alive.
pub(super) fn count() -> usize {
    ALIVE.read().as_ref().map_or(0, |alive| alive.len())
}
