//! Results of analyses: as text, as JSON, as a figure, and their arrays.

use std::ffi::c_char;
use std::sync::Arc;

use super::array::{hand_out, mlxterp_array};
use super::door::{hand_out_text, text};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use crate::error::err;
use crate::utils::Finding;

/// What an analysis found. Immutable; any thread may use it.
pub struct mlxterp_result(Arc<dyn Finding>);

impl Handle for mlxterp_result {
    const NOUN: &'static str = "result";
}

impl mlxterp_result {
    pub(super) fn new(finding: Box<dyn Finding>) -> Self {
        Self(finding.into())
    }
}

/// A second handle on the same result, to be freed on its own. NULL when `result` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_retain(result: *const mlxterp_result) -> *mut mlxterp_result {
    borrow(result).map_or(std::ptr::null_mut(), |r| give(mlxterp_result(r.0.clone())))
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_free(result: *mut mlxterp_result) {
    drop(take(result));
}

/// Which analysis made it, such as "logit_lens". Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_kind(
    result: *const mlxterp_result,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(borrow(result)?.0.kind().to_owned()))
}

/// In words and tables. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_text(
    result: *const mlxterp_result,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(borrow(result)?.0.to_string()))
}

/// All of it as JSON, axes by name. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_json(
    result: *const mlxterp_result,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || super::model::json(&borrow(result)?.0.json()?))
}

/// Drawn: a fragment of HTML with its own styles, without script or request. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_html(
    result: *const mlxterp_result,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(borrow(result)?.0.figure()))
}

/// Names of its arrays, as a JSON list. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_array_names_json(
    result: *const mlxterp_result,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || {
        let arrays = borrow(result)?.0.arrays()?;
        super::model::json(&arrays.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())
    })
}

/// One of its arrays by name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_result_array(
    result: *const mlxterp_result,
    name: *const c_char,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let (result, name) = (borrow(result)?, text(name, "name")?);
        let arrays = result.0.arrays()?;
        let known: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
        match arrays.iter().find(|(n, _)| n == name) {
            Some((_, array)) => Ok(array.clone()),
            None => Err(err!(
                NotFound,
                "no array '{name}' in a result of '{}': it has {}",
                result.0.kind(),
                known.join(", ")
            )),
        }
    })
}
