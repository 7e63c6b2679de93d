//! Conditions: linear probes with a threshold.

use std::ffi::c_char;

use super::array::{array, mlxterp_array};
use super::door::{door, output, text};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use crate::core::intervention::{Condition, Side};

/// What a change in a generation may hang on, row by row. Immutable; any thread may use it.
pub struct mlxterp_condition(pub(super) Condition);

impl Handle for mlxterp_condition {
    const NOUN: &'static str = "condition";
}

/// True for a row while `direction . value + bias` is greater than `threshold` (with `below`: less), where `value` is what
/// `site` (of shape `[row, position, feature]`) has at the row's last position. `direction` is `[feature]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_condition_new(
    site: *const c_char,
    direction: *const mlxterp_array,
    bias: f64,
    threshold: f64,
    below: bool,
    out_condition: *mut *mut mlxterp_condition,
) -> mlxterp_status {
    door(|| {
        let out = output(out_condition, std::ptr::null_mut(), "out_condition")?;
        let mut condition = Condition::above(text(site, "site")?, array(direction)?.clone(), threshold).with_bias(bias);
        if below {
            condition.side = Side::Below;
        }
        condition.check()?;
        *out = give(mlxterp_condition(condition));
        Ok(())
    })
}

/// In words. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_condition_describe(
    condition: *const mlxterp_condition,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    super::door::hand_out_text(out_text, || Ok(borrow(condition)?.0.to_string()))
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_condition_free(condition: *mut mlxterp_condition) {
    drop(take(condition));
}
