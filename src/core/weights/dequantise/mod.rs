//! ggml's block formats to numbers, by ggml's own float32 formulas in ggml's own order of operations.

mod k_quants;
mod simple;
mod tables;

use half::{bf16, f16};

use super::ggml::GgmlType;
use crate::error::{Result, bail};

/// The types that [`dequantise`] reads.
pub const READABLE: &[GgmlType] = &[
    GgmlType::F32,
    GgmlType::F16,
    GgmlType::BF16,
    GgmlType::F64,
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q2_K,
    GgmlType::Q3_K,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::Q8_K,
    GgmlType::IQ4_NL,
    GgmlType::IQ4_XS,
    GgmlType::MXFP4,
];

/// Writes the numbers that `bytes` stand for into `out`. Both hold whole blocks, the same number of them; a tensor
/// may be done in pieces.
pub fn dequantise(kind: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    let blocks = bytes.len() / kind.block_bytes();
    if !bytes.len().is_multiple_of(kind.block_bytes()) || blocks.checked_mul(kind.block_len()) != Some(out.len()) {
        bail!(
            Shape,
            "{} bytes of {kind} do not make {} numbers ({} bytes make {})",
            bytes.len(),
            out.len(),
            kind.block_bytes(),
            kind.block_len()
        );
    }
    match kind {
        GgmlType::F32 => each(bytes, out, |b, y: &mut [f32; 1]| y[0] = f32::from_le_bytes(*b)),
        GgmlType::F64 => each(bytes, out, |b, y: &mut [f32; 1]| y[0] = f64::from_le_bytes(*b) as f32),
        GgmlType::F16 => each(bytes, out, |b, y: &mut [f32; 1]| y[0] = f16::from_le_bytes(*b).to_f32()),
        GgmlType::BF16 => each(bytes, out, |b, y: &mut [f32; 1]| y[0] = bf16::from_le_bytes(*b).to_f32()),
        GgmlType::Q4_0 => each(bytes, out, simple::q4_0),
        GgmlType::Q4_1 => each(bytes, out, simple::q4_1),
        GgmlType::Q5_0 => each(bytes, out, simple::q5_0),
        GgmlType::Q5_1 => each(bytes, out, simple::q5_1),
        GgmlType::Q8_0 => each(bytes, out, simple::q8_0),
        GgmlType::Q2_K => each(bytes, out, k_quants::q2_k),
        GgmlType::Q3_K => each(bytes, out, k_quants::q3_k),
        GgmlType::Q4_K => each(bytes, out, k_quants::q4_k),
        GgmlType::Q5_K => each(bytes, out, k_quants::q5_k),
        GgmlType::Q6_K => each(bytes, out, k_quants::q6_k),
        GgmlType::Q8_K => each(bytes, out, k_quants::q8_k),
        GgmlType::IQ4_NL => each(bytes, out, tables::iq4_nl),
        GgmlType::IQ4_XS => each(bytes, out, tables::iq4_xs),
        GgmlType::MXFP4 => each(bytes, out, tables::mxfp4),
        other => {
            let known: Vec<&str> = READABLE.iter().map(|k| k.name()).collect();
            bail!(Unsupported, "tensors of type {other} cannot be read; these can: {}", known.join(", "))
        }
    }
    Ok(())
}

/// Runs `block` over all blocks of `B` bytes and `N` numbers.
fn each<const B: usize, const N: usize>(bytes: &[u8], out: &mut [f32], block: impl Fn(&[u8; B], &mut [f32; N])) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (numbers, _) = out.as_chunks_mut::<N>();
    blocks.iter().zip(numbers).for_each(|(b, y)| block(b, y));
}

/// The half-precision number at `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests;
