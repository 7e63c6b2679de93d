//! The library as a whole: versions, statuses, messages, strings.

use std::ffi::{CString, c_char};

use super::{door, registry};
use crate::core::tensor;

/// Number of the binary interface. Grows with every change that an already compiled program could notice.
pub const MLXTERP_ABI_VERSION: u32 = 1;

/// What a call came to. Numbers are never used for anything else.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mlxterp_status {
    /// It worked.
    MLXTERP_STATUS_OK = 0,
    /// An argument that can never be right: NULL, bad UTF-8, a freed handle, a number out of range.
    MLXTERP_STATUS_INVALID_ARGUMENT = 1,
    /// A file, a directory, a tensor or a repository that is not there.
    MLXTERP_STATUS_NOT_FOUND = 2,
    /// The operating system or the network refused.
    MLXTERP_STATUS_IO = 3,
    /// A file whose bytes contradict themselves.
    MLXTERP_STATUS_CORRUPT = 4,
    /// Something this library cannot do.
    MLXTERP_STATUS_UNSUPPORTED = 5,
    /// A missing or absurd value in config.json.
    MLXTERP_STATUS_CONFIG = 6,
    /// A mistake in an architecture description.
    MLXTERP_STATUS_DESCRIPTION = 7,
    /// Two shapes that cannot meet.
    MLXTERP_STATUS_SHAPE = 8,
    /// No site of that name.
    MLXTERP_STATUS_UNKNOWN_SITE = 9,
    /// A write behind a value that was already read.
    MLXTERP_STATUS_STALE_WRITE = 10,
    /// A strict trace in which a write changed or reached nothing.
    MLXTERP_STATUS_STRICT = 11,
    /// A callback returned an error.
    MLXTERP_STATUS_CALLBACK = 12,
    /// The object is in use by a call further up the stack.
    MLXTERP_STATUS_BUSY = 13,
    /// MLX refused or failed.
    MLXTERP_STATUS_BACKEND = 14,
    /// The data was asked for before mlxterp_array_eval.
    MLXTERP_STATUS_NOT_EVALUATED = 15,
    /// A bug in this library.
    MLXTERP_STATUS_PANIC = 16,
    /// An expert that no token of the run was routed to.
    MLXTERP_STATUS_NOT_EXECUTED = 17,
}

/// Why the last call of this thread failed. Borrowed: valid until the thread's next failing call. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_last_error_message() -> *const c_char {
    door::last_message()
}

/// The MLXTERP_ABI_VERSION the library was built with; compare it with the header's before anything else.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_abi_version() -> u32 {
    MLXTERP_ABI_VERSION
}

/// The library's version, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Where MLX computes: "cpu", "metal" or "cuda". Static.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_backend() -> *const c_char {
    match tensor::backend() {
        "metal" => c"metal".as_ptr(),
        "cuda" => c"cuda".as_ptr(),
        _ => c"cpu".as_ptr(),
    }
}

/// Handles alive in this process: 0 when everything was freed.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_live_handles() -> usize {
    registry::count()
}

/// Bytes that MLX holds in live arrays.
#[unsafe(no_mangle)]
pub extern "C" fn mlxterp_memory_used() -> usize {
    tensor::memory_used()
}

/// Frees text that this library gave. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the header says it came from this library and was not freed.
        drop(unsafe { CString::from_raw(text) });
    }
}
