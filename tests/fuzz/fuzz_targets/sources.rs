//! The room that is fuzzed, compiled from its sources.
#![allow(dead_code)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

thread_local! {
    static DIRECTORY: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Writes `bytes` to a file of this name in a directory of this thread, and calls `f` with its path.
pub fn with_file(name: &str, bytes: &[u8], f: impl FnOnce(&Path)) {
    DIRECTORY.with_borrow_mut(|directory| {
        let directory = directory.get_or_insert_with(|| tempfile::tempdir().expect("a temporary directory"));
        let path: PathBuf = directory.path().join(name);
        // A new file each time: the old one may still be mapped.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).expect("the temporary directory is writable");
        f(&path);
    });
}
