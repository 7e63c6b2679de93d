//! Division with a rest, as numpy has it for whole numbers too.

use super::ops::{self as t, raw_floor_div, raw_remainder};
use super::{Array, Dtype};
use crate::error::Result;

/// Quotient rounded down; 0 where a whole divisor is 0.
pub fn floor_div(a: &Array, b: &Array) -> Result<Array> {
    if is_whole(a) && is_whole(b) { whole(true, a, b) } else { raw_floor_div(a, b) }
}

/// Remainder with the divisor's sign; 0 where a whole divisor is 0.
pub fn remainder(a: &Array, b: &Array) -> Result<Array> {
    if is_whole(a) && is_whole(b) { whole(false, a, b) } else { raw_remainder(a, b) }
}

fn is_whole(a: &Array) -> bool {
    a.dtype().is_int() || a.dtype() == Dtype::Bool
}

/// MLX rounds whole quotients towards 0, and its CPU backend ends the process at a divisor of 0, or of -1 under the
/// smallest number.
fn whole(quotient: bool, a: &Array, b: &Array) -> Result<Array> {
    let b = if b.dtype() == Dtype::Bool { t::cast(b, Dtype::Uint8)? } else { b.clone() };
    let zero = Array::scalar(0.0, b.dtype())?;
    let one = Array::scalar(1.0, b.dtype())?;
    let is_signed = matches!(b.dtype(), Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64);
    let by_zero = t::equal(&b, &zero)?;
    let by_minus_one = if is_signed { t::equal(&b, &t::neg(&one)?)? } else { t::zeros_like(&by_zero)? };
    let divisor = t::select(&t::or(&by_zero, &by_minus_one)?, &one, &b)?;
    let remainder = raw_remainder(a, &divisor)?;
    if !quotient {
        return Ok(remainder);
    }
    let rounded = raw_floor_div(a, &divisor)?;
    let signs_differ = t::not_equal(&t::less(a, &zero)?, &t::less(&divisor, &zero)?)?;
    let too_high = t::and(&t::not_equal(&remainder, &zero)?, &signs_differ)?;
    let rounded = t::sub(&rounded, &t::cast(&too_high, rounded.dtype())?)?;
    let rounded = if is_signed { t::select(&by_minus_one, &t::neg(&rounded)?, &rounded)? } else { rounded };
    t::select(&by_zero, &t::zeros_like(&rounded)?, &rounded)
}
