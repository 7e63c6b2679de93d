//! What mlx-rs expects from the operating system and finds only on Apple's.

/// mlx-rs seeds its random state from this clock; every random draw of this library takes an explicit seed, so any
/// monotonic number serves.
#[cfg(not(target_vendor = "apple"))]
#[unsafe(no_mangle)]
extern "C" fn mach_approximate_time() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
