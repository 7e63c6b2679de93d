//! What mlx-rs expects from the operating system and finds only on Apple's.

/// mlx-rs seeds its random state from this clock; every random draw of this library takes an explicit seed, so any
/// monotonic number serves.
#[cfg(not(target_vendor = "apple"))]
#[unsafe(no_mangle)]
extern "C" fn mach_approximate_time() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

// Neither is a door of the C ABI: hidden, so that the shared library exports the doors and nothing else. (A reference
// with hidden visibility is enough to hide the symbol that it meets. The linker's own ways differ: only some accept a
// second version script beside rustc's.)
#[cfg(target_os = "linux")]
std::arch::global_asm!(
    ".globl mach_approximate_time",
    ".hidden mach_approximate_time",
    ".globl default_mlx_error_handler",
    ".hidden default_mlx_error_handler",
);
