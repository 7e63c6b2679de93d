//! What every door does before and after its work.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::library::mlxterp_status;
use crate::error::{ErrorKind, Result, bail, err};

thread_local! {
    static LAST_MESSAGE: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs a door's work: errors and panics become a status, their text the thread's last message.
pub(super) fn door(work: impl FnOnce() -> Result<()>) -> mlxterp_status {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(err!(Panic, "a bug in mlxterp: {text}"))
    });
    match result {
        Ok(()) => mlxterp_status::MLXTERP_STATUS_OK,
        Err(e) => {
            remember(e.message());
            status_of(e.kind())
        }
    }
}

fn remember(message: &str) {
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    LAST_MESSAGE.with_borrow_mut(|m| *m = text);
}

pub(super) fn last_message() -> *const c_char {
    LAST_MESSAGE.with_borrow(|m| m.as_ptr())
}

fn status_of(kind: ErrorKind) -> mlxterp_status {
    use mlxterp_status::*;
    match kind {
        ErrorKind::InvalidArgument => MLXTERP_STATUS_INVALID_ARGUMENT,
        ErrorKind::NotFound => MLXTERP_STATUS_NOT_FOUND,
        ErrorKind::Io => MLXTERP_STATUS_IO,
        ErrorKind::Corrupt => MLXTERP_STATUS_CORRUPT,
        ErrorKind::Unsupported => MLXTERP_STATUS_UNSUPPORTED,
        ErrorKind::Config => MLXTERP_STATUS_CONFIG,
        ErrorKind::Description => MLXTERP_STATUS_DESCRIPTION,
        ErrorKind::Shape => MLXTERP_STATUS_SHAPE,
        ErrorKind::UnknownSite => MLXTERP_STATUS_UNKNOWN_SITE,
        ErrorKind::StaleWrite => MLXTERP_STATUS_STALE_WRITE,
        ErrorKind::Strict => MLXTERP_STATUS_STRICT,
        ErrorKind::Callback => MLXTERP_STATUS_CALLBACK,
        ErrorKind::Busy => MLXTERP_STATUS_BUSY,
        ErrorKind::Backend => MLXTERP_STATUS_BACKEND,
        ErrorKind::NotEvaluated => MLXTERP_STATUS_NOT_EVALUATED,
        ErrorKind::NotExecuted => MLXTERP_STATUS_NOT_EXECUTED,
        ErrorKind::Panic => MLXTERP_STATUS_PANIC,
    }
}

/// An output pointer, nulled (or zeroed) before anything else happens.
pub(super) fn output<'a, T: Copy>(out: *mut T, empty: T, name: &str) -> Result<&'a mut T> {
    if out.is_null() {
        bail!(InvalidArgument, "{name} is NULL: nowhere to put the result");
    }
    // SAFETY: not NULL; the header says it must point to such a value.
    unsafe {
        *out = empty;
        Ok(&mut *out)
    }
}

/// Borrowed text of the caller.
pub(super) fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        bail!(InvalidArgument, "{name} is NULL");
    }
    // SAFETY: not NULL; the header says NUL-terminated.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes.to_str().map_err(|e| err!(InvalidArgument, "{name} is not UTF-8 (byte {})", e.valid_up_to()))
}

/// The same, where NULL means nothing.
pub(super) fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() { Ok(None) } else { text(pointer, name).map(Some) }
}

/// Borrowed elements of the caller; NULL is fine when there are none.
pub(super) fn list<'a, T>(pointer: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        bail!(InvalidArgument, "{name} is NULL but {count} elements were announced");
    }
    if !pointer.is_aligned() || count > isize::MAX as usize / size_of::<T>().max(1) {
        bail!(InvalidArgument, "{name} with {count} elements cannot be a list in memory");
    }
    // SAFETY: not NULL, aligned, of a possible size; the header says how many elements it must have.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A flat list of the caller as rows: `counts[r]` elements of row `r` follow those of row `r - 1`.
pub(super) fn list_by_row<T: Copy>(
    flat: *const T,
    counts: *const usize,
    rows: usize,
    names: (&str, &str),
) -> Result<Vec<Vec<T>>> {
    let counts = list(counts, rows, names.1)?;
    let Some(total) = counts.iter().try_fold(0usize, |n, c| n.checked_add(*c)) else {
        bail!(InvalidArgument, "{} {counts:?} add up to more than memory holds", names.1);
    };
    let mut rest = list(flat, total, names.0)?;
    let row = |count: &usize| {
        let (own, after) = rest.split_at(*count);
        rest = after;
        own.to_vec()
    };
    Ok(counts.iter().map(row).collect())
}

/// A door that hands text out, to be freed with `mlxterp_string_free`.
pub(super) fn hand_out_text(out: *mut *mut c_char, work: impl FnOnce() -> Result<String>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_text")?;
        let text = CString::new(work()?).map_err(|_| err!(Backend, "the text holds a NUL byte"))?;
        *out = text.into_raw();
        Ok(())
    })
}

/// Fills in a caller's struct of `size` bytes. An earlier header's ends before ours does, and what lies behind it is
/// something else of the caller's.
pub(super) fn fill_struct<T: Copy>(pointer: *mut T, defaults: T, size: usize, oldest: usize) -> Result<()> {
    if pointer.is_null() {
        bail!(InvalidArgument, "the struct to fill in is NULL");
    }
    if !pointer.is_aligned() {
        bail!(InvalidArgument, "the struct to fill in is not aligned");
    }
    if size < oldest || size > size_of::<T>() {
        let known = size_of::<T>();
        bail!(
            InvalidArgument,
            "struct_size is {size}, {oldest} to {known} are known: the program's header is newer than this library"
        );
    }
    // SAFETY: not NULL, aligned, and as the caller says of `size` bytes, of which ours has as many; both are plain data
    // that begins with its size.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const defaults).cast::<u8>(), pointer.cast::<u8>(), size);
        pointer.cast::<usize>().write(size);
    }
    Ok(())
}

/// The caller's options, NULL meaning the defaults. Such structs begin with their size and only grow at their end, so a
/// caller compiled against an earlier header is understood: what it does not know stays at its default. `oldest` is the
/// size in the first version, `init` the door that fills one in.
pub(super) fn read_struct<T: Copy>(pointer: *const T, defaults: T, oldest: usize, init: &str) -> Result<T> {
    if pointer.is_null() {
        return Ok(defaults);
    }
    if !pointer.is_aligned() {
        bail!(InvalidArgument, "options is not aligned");
    }
    // SAFETY: not NULL, aligned; the header says it points to the struct, whose first member is its size.
    let size = unsafe { pointer.cast::<usize>().read() };
    if size < oldest || size > size_of::<T>() {
        bail!(
            InvalidArgument,
            "options.struct_size is {size}, {oldest} to {} are known: call {init} first",
            size_of::<T>()
        );
    }
    let mut read = defaults;
    // SAFETY: the caller's struct has `size` bytes, ours at least as many; both are plain data.
    unsafe { std::ptr::copy_nonoverlapping(pointer.cast::<u8>(), (&raw mut read).cast::<u8>(), size) };
    Ok(read)
}
