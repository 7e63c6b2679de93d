//! The one gate through which every thread reaches MLX.
//!
//! MLX ties streams to the thread that made them. Here all work goes to one stream that MLX lets any thread use, and
//! a re-entrant lock keeps two threads from using it at once. So any handle may be used on any thread, and several
//! traces from several threads give what they would give one after another.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{LazyLock, Mutex, Weak};

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

use crate::error::{Error, ErrorKind, Result};

/// Held while a thread uses MLX.
pub type Gate = ReentrantMutexGuard<'static, ()>;

static GATE: ReentrantMutex<()> = ReentrantMutex::new(());

/// Waits until no other thread uses MLX. May be taken again by the thread that holds it.
pub fn gate() -> Gate {
    GATE.lock()
}

struct Engine {
    stream: mlx_sys::mlx_stream,
    cpu: bool,
}

// SAFETY: the stream was made with `mlx_stream_new_thread_unsafe`, which MLX allows from any thread as long as calls do
// not overlap; the gate sees to that.
unsafe impl Send for Engine {}
unsafe impl Sync for Engine {}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    // mlx-rs installs its error handler at its first fallible call and never again: let it, then install ours.
    drop(mlx_rs::Array::from_bool(true).clone());
    // SAFETY: plain constructors; the device handle is freed below.
    unsafe {
        mlx_sys::mlx_set_error_handler(Some(remember_error), std::ptr::null_mut(), None);
        let mut device = mlx_sys::mlx_device_new();
        mlx_sys::mlx_get_default_device(&mut device);
        let mut kind = mlx_sys::mlx_device_type__MLX_CPU;
        mlx_sys::mlx_device_get_type(&mut kind, device);
        let stream = mlx_sys::mlx_stream_new_thread_unsafe(device);
        mlx_sys::mlx_device_free(device);
        Engine { stream, cpu: kind == mlx_sys::mlx_device_type__MLX_CPU }
    }
});

pub(super) fn stream() -> mlx_sys::mlx_stream {
    ENGINE.stream
}

/// Whether computations run on MLX's CPU backend.
pub fn uses_cpu() -> bool {
    ENGINE.cpu
}

/// The backend in words: `cpu`, `metal` or `cuda`.
pub fn backend() -> &'static str {
    if uses_cpu() {
        return "cpu";
    }
    let mut metal = false;
    // SAFETY: writes one bool.
    unsafe { mlx_sys::mlx_metal_is_available(&mut metal) };
    if metal { "metal" } else { "cuda" }
}

/// Whether a packed weight is the better default. Not on the CPU backend, where packed products are ten times slower
/// than float32; not on CUDA, where products with a 4-bit weight of 64 columns in one group came out wrong (seen with MLX
/// 0.32.2 on an H200: the same weight unpacked by MLX gave the right ones).
pub fn packed_products_are_sound_and_fast() -> bool {
    backend() == "metal"
}

thread_local! {
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    /// mlx-rs's own handler: called too, so that whoever uses mlx-rs directly still gets its messages.
    fn default_mlx_error_handler(msg: *const c_char, data: *mut c_void);
}

extern "C" fn remember_error(msg: *const c_char, data: *mut c_void) {
    // SAFETY: MLX passes a NUL-terminated message that lives during the call.
    let text = unsafe {
        default_mlx_error_handler(msg, data);
        CStr::from_ptr(msg).to_string_lossy().into_owned()
    };
    LAST_ERROR.with_borrow_mut(|e| *e = Some(text));
}

/// Turns a status of the C layer into a result with MLX's own words.
pub(super) fn check(status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let text = LAST_ERROR.with_borrow_mut(Option::take).unwrap_or_else(|| format!("MLX failed with status {status}"));
    // The C layer appends " at FILE:LINE" of its own source, which helps nobody here.
    let text = text.split(" at ").next().filter(|_| text.contains(".cpp:")).unwrap_or(&text).to_owned();
    let kind = if text.contains("broadcast") || text.contains("shape") { ErrorKind::Shape } else { ErrorKind::Backend };
    Err(Error::new(kind, text))
}

/// Told before anything is evaluated, so that handles nobody needs can be dropped and their buffers never pile up.
pub trait BeforeEval: Send + Sync {
    /// Drops what need not survive the coming evaluation.
    fn before_eval(&self);
}

static LISTENERS: Mutex<Vec<Weak<dyn BeforeEval>>> = Mutex::new(Vec::new());

/// Registers a listener for as long as it lives.
pub fn on_eval(listener: Weak<dyn BeforeEval>) {
    let mut all = LISTENERS.lock().unwrap_or_else(|e| e.into_inner());
    all.retain(|l| l.strong_count() > 0);
    all.push(listener);
}

pub(super) fn announce_eval() {
    // Upgraded outside the lock: a listener that is dropped here may itself hold the last handle of something.
    let live: Vec<_> = LISTENERS.lock().unwrap_or_else(|e| e.into_inner()).iter().filter_map(Weak::upgrade).collect();
    for listener in live {
        listener.before_eval();
    }
}

/// Bytes that MLX holds in live arrays.
pub fn memory_used() -> usize {
    read_size(mlx_sys::mlx_get_active_memory)
}

/// The most bytes MLX held in live arrays since the last reset.
pub fn peak_memory() -> usize {
    read_size(mlx_sys::mlx_get_peak_memory)
}

/// Starts a new measurement of [`peak_memory`].
pub fn reset_peak_memory() {
    // SAFETY: no arguments.
    unsafe { mlx_sys::mlx_reset_peak_memory() };
}

fn read_size(door: unsafe extern "C" fn(*mut usize) -> i32) -> usize {
    let mut n = 0;
    // SAFETY: each of these doors writes one size.
    unsafe { door(&mut n) };
    n
}
