//! Traces: reading, writing, forking.

use std::ffi::c_char;

use super::array::{array, hand_out, mlxterp_array};
use super::array_ops::{mlxterp_index, subscripts};
use super::batch::mlxterp_batch;
use super::cache::mlxterp_cache;
use super::door::{door, fill_struct, hand_out_text, list, output, read_struct, text};
use super::intervention::mlxterp_intervention;
use super::library::mlxterp_status;
use super::model::{json, mlxterp_model};
use super::registry::{Handle, borrow, give, take};
use crate::core::trace::{Keep, Trace, TraceOptions};
use crate::error::Result;

/// One forward pass of a model over one batch: built lazily, stopped anywhere, changed, continued. Keeps its model
/// alive. Any thread may use it.
pub struct mlxterp_trace(pub(super) Trace);

impl Handle for mlxterp_trace {
    const NOUN: &'static str = "trace";
}

/// Options of mlxterp_trace_start. Begin with mlxterp_trace_options_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxterp_trace_options {
    /// Size of this struct.
    pub struct_size: usize,
    /// Site names or patterns, `intervention_count` of them.
    pub patterns: *const *const c_char,
    /// The intervention of each pattern, applied in this order, once.
    pub interventions: *const *const mlxterp_intervention,
    /// How many.
    pub intervention_count: usize,
    /// 1 keeps every value from the start, 0 what is read, saved or written.
    pub keep_all: i32,
    /// 1 makes a write that changed or reached nothing an error of mlxterp_trace_finish.
    pub strict: i32,
    /// What was seen before these tokens (mlxterp_cache_empty: nothing); with it mlxterp_trace_cache gives the state
    /// after them. NULL: nothing is remembered.
    pub cache: *const mlxterp_cache,
}

const DEFAULTS: mlxterp_trace_options = mlxterp_trace_options {
    struct_size: size_of::<mlxterp_trace_options>(),
    patterns: std::ptr::null(),
    interventions: std::ptr::null(),
    intervention_count: 0,
    keep_all: 0,
    strict: 0,
    cache: std::ptr::null(),
};

/// The size of the struct in the first header of this ABI (tests/fixtures/abi).
const FIRST: usize = std::mem::offset_of!(mlxterp_trace_options, cache) + size_of::<*const mlxterp_cache>();

/// Fills in the defaults of a struct of `struct_size` bytes: what a C program calls as mlxterp_trace_options_init(&options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_options_init_sized(
    options: *mut mlxterp_trace_options,
    struct_size: usize,
) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, struct_size, FIRST))
}

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_trace_options_init_sized.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_options_init(options: *mut mlxterp_trace_options) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, FIRST, FIRST))
}

fn read_options(pointer: *const mlxterp_trace_options) -> Result<TraceOptions> {
    let oldest = std::mem::offset_of!(mlxterp_trace_options, cache);
    let o = read_struct(pointer, DEFAULTS, oldest, "mlxterp_trace_options_init")?;
    let patterns = list(o.patterns, o.intervention_count, "options.patterns")?;
    let interventions = list(o.interventions, o.intervention_count, "options.interventions")?;
    let both = patterns.iter().zip(interventions);
    Ok(TraceOptions {
        interventions: both
            .map(|(p, i)| Ok((text(*p, "a pattern")?.to_owned(), borrow(*i)?.0.clone())))
            .collect::<Result<_>>()?,
        keep: if o.keep_all != 0 { Keep::All } else { Keep::Read },
        strict: o.strict != 0,
        cache: if o.cache.is_null() { None } else { Some(borrow(o.cache)?.0.clone()) },
        step: 0,
    })
}

fn hand_out_trace(out: *mut *mut mlxterp_trace, work: impl FnOnce() -> Result<Trace>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_trace")?;
        *out = give(mlxterp_trace(work()?));
        Ok(())
    })
}

/// Starts a trace. Nothing is computed. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_start(
    model: *const mlxterp_model,
    batch: *const mlxterp_batch,
    options: *const mlxterp_trace_options,
    out_trace: *mut *mut mlxterp_trace,
) -> mlxterp_status {
    hand_out_trace(out_trace, || {
        let options = read_options(options)?;
        borrow(model)?.0.trace_batch(borrow(batch)?.0.clone(), &options)
    })
}

/// A second handle on the same trace, to be freed on its own. NULL when `trace` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_retain(trace: *const mlxterp_trace) -> *mut mlxterp_trace {
    borrow(trace).map_or(std::ptr::null_mut(), |t| give(mlxterp_trace(t.0.clone())))
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_free(trace: *mut mlxterp_trace) {
    drop(take(trace));
}

/// The value of a site ("layers.3.attn.output"), lazily: nothing is computed before mlxterp_array_eval.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_read(
    trace: *const mlxterp_trace,
    site: *const c_char,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || borrow(trace)?.0.get(text(site, "site")?))
}

/// Puts a value in a site's place; everything after sees it. It keeps the site's dtype and must broadcast to its shape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_write(
    trace: *const mlxterp_trace,
    site: *const c_char,
    value: *const mlxterp_array,
) -> mlxterp_status {
    door(|| borrow(trace)?.0.set(text(site, "site")?, array(value)?))
}

/// Puts a value in part of a site's place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_write_at(
    trace: *const mlxterp_trace,
    site: *const c_char,
    at: *const mlxterp_index,
    count: usize,
    value: *const mlxterp_array,
) -> mlxterp_status {
    door(|| borrow(trace)?.0.set_at(text(site, "site")?, &subscripts(at, count)?, array(value)?))
}

/// Applies an intervention to every site that a name or pattern ("layers.*.mlp") means.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_intervene(
    trace: *const mlxterp_trace,
    pattern: *const c_char,
    intervention: *const mlxterp_intervention,
) -> mlxterp_status {
    door(|| borrow(trace)?.0.intervene(text(pattern, "pattern")?, borrow(intervention)?.0.clone()))
}

/// A second continuation that shares everything built so far. In it anything may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_fork(
    trace: *const mlxterp_trace,
    out_trace: *mut *mut mlxterp_trace,
) -> mlxterp_status {
    hand_out_trace(out_trace, || borrow(trace)?.0.fork())
}

/// A fork whose batch is this one's `n` times over: row `i` continues row `i % rows`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_fork_rows(
    trace: *const mlxterp_trace,
    n: usize,
    out_trace: *mut *mut mlxterp_trace,
) -> mlxterp_status {
    hand_out_trace(out_trace, || borrow(trace)?.0.fork_rows(n))
}

/// One receipt a write, as a JSON list of `{"site", "change", "step", "rows", "positions", "change_norm", "reached"}`.
/// Evaluates the norms. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_receipts_json(
    trace: *const mlxterp_trace,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(&borrow(trace)?.0.receipts()?))
}

/// Which step of a generation the trace is; 0 in a plain forward, and when `trace` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_step(trace: *const mlxterp_trace) -> usize {
    borrow(trace).and_then(|t| t.0.step()).unwrap_or(0)
}

/// The tokens of the trace, as a batch handle of the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_batch(
    trace: *const mlxterp_trace,
    out_batch: *mut *mut mlxterp_batch,
) -> mlxterp_status {
    door(|| {
        let out = output(out_batch, std::ptr::null_mut(), "out_batch")?;
        *out = give(mlxterp_batch((*borrow(trace)?.0.batch()?).clone()));
        Ok(())
    })
}

/// Ends the block: a strict trace refuses here a write that changed nothing, or that nothing read depends on. Values
/// can still be read afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_trace_finish(trace: *const mlxterp_trace) -> mlxterp_status {
    door(|| borrow(trace)?.0.finish())
}
