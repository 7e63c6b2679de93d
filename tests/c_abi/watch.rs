//! What a callback of the tests is given: it counts its calls and its end.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use mlxterp::ffi::{mlxterp_model, mlxterp_trace};

/// What a callback does and what it saw.
#[derive(Default)]
pub struct Watch {
    pub calls: AtomicUsize,
    pub destroyed: AtomicUsize,
    /// The trace or model that a re-entrant callback uses, and what it was told.
    pub trace: AtomicPtr<mlxterp_trace>,
    pub model: AtomicPtr<mlxterp_model>,
    pub told: AtomicUsize,
}

impl Watch {
    pub fn user(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }

    pub fn counts(&self) -> (usize, usize) {
        (self.calls.load(Ordering::SeqCst), self.destroyed.load(Ordering::SeqCst))
    }
}

pub unsafe extern "C" fn destroy(user: *mut c_void) {
    // SAFETY: a Watch that outlives the test.
    unsafe { &*user.cast::<Watch>() }.destroyed.fetch_add(1, Ordering::SeqCst);
}

pub unsafe fn called<'a>(user: *mut c_void) -> &'a Watch {
    // SAFETY: as above.
    let watch = unsafe { &*user.cast::<Watch>() };
    watch.calls.fetch_add(1, Ordering::SeqCst);
    watch
}
