//! The doors of the C ABI, called as a C program calls them, mistakes included.
#![allow(unsafe_code)]

mod arguments;
#[path = "../support/c_build.rs"]
mod build;
mod callbacks;
mod case;
#[path = "../support/c_doors.rs"]
mod doors;
mod generation;
mod lifetimes;
mod memory;
mod opaque;
mod statuses;
mod table;
mod threads;
mod watch;

use std::ptr::null;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mlxterp::ffi::*;

static ALONE: Mutex<()> = Mutex::new(());

/// A model for one test, which has the process to itself: at the end no handle may be left.
struct Scene {
    model: *mut mlxterp_model,
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = mlxterp_live_handles();
        let path = case::model_path();
        let model = case::made(|out| unsafe { mlxterp_model_load(path.as_ptr(), null(), out) });
        Scene { model, before, _alone: alone }
    }

    /// A trace over a few tokens.
    fn trace(&self) -> *mut mlxterp_trace {
        let batch = case::tokens(self.model, &[3, 7, 11, 20]);
        let trace = case::made(|out| unsafe { mlxterp_trace_start(self.model, batch, null(), out) });
        unsafe { mlxterp_batch_free(batch) };
        trace
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        unsafe { mlxterp_model_free(self.model) };
        if !std::thread::panicking() {
            assert_eq!(mlxterp_live_handles(), self.before, "handles were left behind");
        }
    }
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_any_of_this() {
    let Some(mut valgrind) = build::valgrind() else { return };
    let this = std::env::current_exe().unwrap();
    let output = build::succeed(valgrind.arg(this).args(["--test-threads=1", "--skip", "valgrind_finds_no_error"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("test result: ok."));
}
