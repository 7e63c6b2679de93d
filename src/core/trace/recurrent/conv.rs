//! Depthwise causal convolution and its simplest case, the token before.

use super::rows::Rows;
use super::{dims, f32, part};
use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::{Result, bail};

/// `x [B, L, C]` under `weight [C, taps, 1]`: each channel's sum over its own taps, the newest last. Also the inputs
/// that the next call's taps reach back to, `[B, taps - 1, C]`, unless one tap needs none.
pub(super) fn causal(
    x: &Array,
    weight: &Array,
    bias: Option<&Array>,
    past: Option<&Array>,
    rows: &Rows<'_>,
) -> Result<(Array, Option<Array>)> {
    let Some([batch, length, channels]) = dims(x) else {
        bail!(Shape, "a convolution needs [row, position, channel], found {:?}", x.shape());
    };
    let Some([own, taps, 1]) = dims(weight) else {
        bail!(Shape, "a depthwise convolution needs a weight [channels, taps, 1], found {:?}", weight.shape());
    };
    if own != channels {
        bail!(Shape, "a convolution of {own} channels got {channels}");
    }
    let reach = taps - 1;
    let before = match past {
        Some(p) => p.clone(),
        None => t::full(&[batch as i32, reach as i32, channels as i32], 0.0, x.dtype())?,
    };
    let all = if reach == 0 { x.clone() } else { t::concatenate([&before, x], 1)? };
    // Half-precision taps are summed in float32 and rounded once, as a fused convolution does.
    let (wide, weight) = (f32(&all)?, f32(weight)?);
    let mut y: Option<Array> = None;
    for tap in 0..taps {
        let w = t::reshape(&part(&weight, 1, tap, tap + 1)?, &[channels as i32])?;
        let term = t::mul(&part(&wide, 1, tap, tap + length)?, &w)?;
        y = Some(match y {
            Some(sum) => t::add(&sum, &term)?,
            None => term,
        });
    }
    let Some(y) = y else { bail!(Shape, "a convolution without taps") };
    let y = t::cast(&y, x.dtype())?;
    let y = bias.map_or(Ok(y.clone()), |b| t::add(&y, b))?;
    let tail = if reach == 0 { None } else { Some(rows.before_the_end(&all, 1, reach)?) };
    Ok((y, tail))
}

/// Each position's value is the one before it, the first one's the last of `past` or zero. Also each row's last value.
pub(super) fn shift(x: &Array, past: Option<&Array>, rows: &Rows<'_>) -> Result<(Array, Array)> {
    let Some([batch, length, channels]) = dims(x) else {
        bail!(Shape, "a token shift needs [row, position, channel], found {:?}", x.shape());
    };
    let before = match past {
        Some(p) => p.clone(),
        None => t::cast(&t::full(&[batch as i32, 1, channels as i32], 0.0, Dtype::Float32)?, x.dtype())?,
    };
    let all = t::concatenate([&before, x], 1)?;
    Ok((part(&all, 1, 0, length)?, rows.before_the_end(&all, 1, 1)?))
}
