//! Caches: what a model remembers between one trace and the next.

use super::door::{door, output};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use super::trace::mlxterp_trace;
use crate::core::trace::Cache;
use crate::error::{Result, bail};

/// Keys and values, convolution tails and recurrent states after some tokens. Immutable: each trace that was started
/// with a cache gives a new one. Any thread may use it.
pub struct mlxterp_cache(pub(super) Cache);

impl Handle for mlxterp_cache {
    const NOUN: &'static str = "cache";
}

pub(super) fn hand_out_cache(out: *mut *mut mlxterp_cache, work: impl FnOnce() -> Result<Cache>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_cache")?;
        *out = give(mlxterp_cache(work()?));
        Ok(())
    })
}

/// A cache that has seen no tokens, for a first trace.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_cache_empty(out_cache: *mut *mut mlxterp_cache) -> mlxterp_status {
    hand_out_cache(out_cache, || Ok(Cache::default()))
}

/// What the model remembers after the trace's tokens, edits included, lazily. The trace must have been started with a
/// cache (mlxterp_trace_options.cache).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_cache(
    trace: *const mlxterp_trace,
    out_cache: *mut *mut mlxterp_cache,
) -> mlxterp_status {
    hand_out_cache(out_cache, || borrow(trace)?.0.cache())
}

/// Tokens that each row has seen: writes at most `capacity` numbers to `lengths` (NULL when 0) and their count to
/// `out_rows`, which is 0 for an empty cache.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_cache_lengths(
    cache: *const mlxterp_cache,
    lengths: *mut usize,
    capacity: usize,
    out_rows: *mut usize,
) -> mlxterp_status {
    door(|| {
        let rows = output(out_rows, 0, "out_rows")?;
        let own = borrow(cache)?.0.lengths();
        *rows = own.len();
        let n = own.len().min(capacity);
        if n > 0 && lengths.is_null() {
            bail!(InvalidArgument, "lengths is NULL but has room for {capacity}");
        }
        for (i, length) in own.iter().take(n).enumerate() {
            // SAFETY: not NULL; the header says that it has room for `capacity` numbers.
            unsafe { lengths.add(i).write(*length) };
        }
        Ok(())
    })
}

/// Computes what the cache remembers, so that the graph behind it can be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_cache_eval(cache: *const mlxterp_cache) -> mlxterp_status {
    door(|| borrow(cache)?.0.eval())
}

/// Bytes that the cache's arrays hold, or will hold once they are computed. 0 when `cache` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_cache_byte_size(cache: *const mlxterp_cache) -> usize {
    borrow(cache).map_or(0, |c| c.0.byte_size())
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_cache_free(cache: *mut mlxterp_cache) {
    drop(take(cache));
}
