//! Interventions: changes as values.

use std::ffi::{CString, c_char, c_void};

use super::array::{array, mlxterp_array, mlxterp_destroy_fn};
use super::door::{door, hand_out_text, list, list_by_row, output, text};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use crate::core::intervention::{Event, Intervention};
use crate::core::tensor::Array;
use crate::error::{Error, ErrorKind, Result, bail};

/// A change of a site's value: what, and on which rows, positions, heads or neurons. Immutable; any thread may use it.
pub struct mlxterp_intervention(pub(super) Intervention);

impl Handle for mlxterp_intervention {
    const NOUN: &'static str = "intervention";
}

fn hand_out(out: *mut *mut mlxterp_intervention, work: impl FnOnce() -> Result<Intervention>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_intervention")?;
        *out = give(mlxterp_intervention(work()?));
        Ok(())
    })
}

/// Zeros in place of the value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_zero_out(
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::zero_out()))
}

/// The value times `factor`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_scale(
    factor: f64,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::scale(factor)))
}

/// The value plus `vector` times `strength`; the vector broadcasts to the site.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_add_vector(
    vector: *const mlxterp_array,
    strength: f64,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::add_vector(array(vector)?.clone(), strength)))
}

/// `value` in place of the value; it broadcasts to the site.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_replace_with(
    value: *const mlxterp_array,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::replace_with(array(value)?.clone())))
}

/// Values below `low` become `low`, above `high` become `high`. An infinite bound is no bound.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_clamp(
    low: f64,
    high: f64,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || {
        if low.is_nan() || high.is_nan() {
            bail!(InvalidArgument, "clamp from {low} to {high}");
        }
        Ok(Intervention::clamp(low.is_finite().then_some(low), high.is_finite().then_some(high)))
    })
}

/// Normal noise of standard deviation `std` added; the same seed gives the same noise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_noise(
    std: f64,
    seed: u64,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::noise(std, seed)))
}

/// The value without its component along `direction`, whose last axis is the site's features; its length does not matter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_project_out(
    direction: *const mlxterp_array,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::project_out(array(direction)?.clone())))
}

/// The value with its component along `direction` set to `value`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_set_component(
    direction: *const mlxterp_array,
    value: f64,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || Ok(Intervention::set_component(array(direction)?.clone(), value)))
}

/// One after another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_compose(
    parts: *const *const mlxterp_intervention,
    count: usize,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || {
        let parts = list(parts, count, "parts")?.iter().map(|p| Ok(borrow(*p)?.0.clone()));
        Ok(Intervention::compose(parts.collect::<Result<_>>()?))
    })
}

/// What a hook is told. Everything in it is borrowed for the call.
#[repr(C)]
pub struct mlxterp_event {
    /// Size of this struct.
    pub struct_size: usize,
    /// Name of the site.
    pub site: *const c_char,
    /// Generation step; 0 in a plain forward.
    pub step: usize,
    /// Number of rows of the batch.
    pub rows: usize,
    /// Tokens of each row.
    pub lengths: *const usize,
    /// The site's value.
    pub value: *const mlxterp_array,
}

/// A hook: puts a new handle into `out_value` (the library frees it), or leaves it NULL for "unchanged". Any status but
/// OK stops the call that ran the hook with MLXTERP_STATUS_CALLBACK. It must not use the run that called it (BUSY).
pub type mlxterp_hook_fn = Option<
    unsafe extern "C" fn(user: *mut c_void, event: *const mlxterp_event, out_value: *mut *mut mlxterp_array) -> i32,
>;

struct Hook {
    call: unsafe extern "C" fn(*mut c_void, *const mlxterp_event, *mut *mut mlxterp_array) -> i32,
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
}

// SAFETY: the header says that hook and destroy may be called from any thread, one at a time.
unsafe impl Send for Hook {}
unsafe impl Sync for Hook {}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller's function on the caller's pointer, once.
            unsafe { destroy(self.user) };
        }
    }
}

impl Hook {
    fn run(&self, event: &Event<'_>, value: &Array) -> Result<Option<Array>> {
        let site = CString::new(event.site).unwrap_or_default();
        let lent = give(mlxterp_array::new(value.clone()));
        let told = mlxterp_event {
            struct_size: size_of::<mlxterp_event>(),
            site: site.as_ptr(),
            step: event.step,
            rows: event.lengths.len(),
            lengths: event.lengths.as_ptr(),
            value: lent,
        };
        let mut out = std::ptr::null_mut();
        // SAFETY: the caller's function; everything lent lives through the call.
        let status = unsafe { (self.call)(self.user, &told, &mut out) };
        drop(take(lent));
        let result = take(out);
        if status != 0 {
            let text = format!("the hook at '{}' failed with status {status}", event.site);
            return Err(Error::new(ErrorKind::Callback, text));
        }
        match result {
            Some(new) => Ok(Some(new.array)),
            None if out.is_null() => Ok(None),
            None => bail!(Callback, "the hook at '{}' returned something that is no array handle", event.site),
        }
    }
}

/// Whatever `hook` makes of the value. `name` is how it prints. `destroy(user)` is called exactly once, when the last
/// use of the intervention is over, on failure too; it may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_custom(
    name: *const c_char,
    hook: mlxterp_hook_fn,
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    unsafe extern "C" fn nothing(_: *mut c_void, _: *const mlxterp_event, _: *mut *mut mlxterp_array) -> i32 {
        0
    }
    let owned = Hook { call: hook.unwrap_or(nothing), user, destroy };
    hand_out(out_intervention, move || {
        if hook.is_none() {
            bail!(InvalidArgument, "hook is NULL");
        }
        let name = text(name, "name")?;
        Ok(Intervention::custom(name, move |event, value| owned.run(event, value)))
    })
}

/// The same intervention on part of the site: `axis` is "rows", "positions", "heads" or "neurons"; negative indices
/// count from the end (positions: of each row's own end).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_select(
    intervention: *const mlxterp_intervention,
    axis: *const c_char,
    indices: *const i64,
    count: usize,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || {
        let base = borrow(intervention)?.0.clone();
        let indices = list(indices, count, "indices")?.to_vec();
        Ok(match text(axis, "axis")? {
            "rows" => base.rows(indices),
            "positions" => base.positions(indices),
            "heads" => base.heads(indices),
            "neurons" => base.neurons(indices),
            other => bail!(InvalidArgument, "no axis '{other}': use rows, positions, heads or neurons"),
        })
    })
}

/// The same intervention at each row's own positions: `counts[r]` positions of row `r` follow those of row `r - 1`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_select_positions_by_row(
    intervention: *const mlxterp_intervention,
    positions: *const i64,
    counts: *const usize,
    rows: usize,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || {
        let split = list_by_row(positions, counts, rows, ("positions", "counts"))?;
        Ok(borrow(intervention)?.0.clone().positions_by_row(split))
    })
}

/// From JSON, such as `{"kind": "scale", "factor": 0.5, "positions": [-1]}`, or the short form `scale(0.5)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_from_json(
    text: *const c_char,
    out_intervention: *mut *mut mlxterp_intervention,
) -> mlxterp_status {
    hand_out(out_intervention, || self::text(text, "text")?.parse())
}

/// As JSON; a custom one has none. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_to_json(
    intervention: *const mlxterp_intervention,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || borrow(intervention)?.0.to_json())
}

/// In words. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_describe(
    intervention: *const mlxterp_intervention,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(borrow(intervention)?.0.to_string()))
}

/// Whether two interventions do the same. Custom ones are equal only to themselves.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_equal(
    a: *const mlxterp_intervention,
    b: *const mlxterp_intervention,
) -> bool {
    matches!((borrow(a), borrow(b)), (Ok(a), Ok(b)) if a.0 == b.0)
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_intervention_free(intervention: *mut mlxterp_intervention) {
    drop(take(intervention));
}
