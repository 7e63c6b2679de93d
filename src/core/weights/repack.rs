//! ggml's Q4_0, Q4_1 and Q8_0 in the layout of MLX's affine quantisation: the same integers, not quantised anew.
//!
//! MLX keeps, for each group of 32 numbers along a row, a scale and a bias with number = integer * scale + bias, and
//! packs the integers into 32-bit words from the least significant bit up. ggml's integers are centred (Q4_0 by 8,
//! Q8_0 by being signed), which the bias takes over. All of this is exact: a bias is the scale times a power of two.
//! Kept in half precision MLX also computes in it; with scales and biases widened to float32 its numbers are ggml's.

use half::f16;

use super::ggml::GgmlType;
use crate::error::{Result, bail};

/// How many numbers share a scale, in both layouts.
pub const GROUP_SIZE: usize = 32;

/// A matrix in MLX's affine layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    /// The integers: `rows` by `columns * bits / 32` words.
    pub weight: Vec<u32>,
    /// One scale per group: `rows` by `columns / 32`, as bits of half-precision floats.
    pub scales: Vec<u16>,
    /// One bias per group, like `scales`.
    pub biases: Vec<u16>,
    /// Bits per integer, 4 or 8.
    pub bits: usize,
    /// Always [`GROUP_SIZE`].
    pub group_size: usize,
}

/// How many bits MLX needs for a type that it can keep quantised.
pub fn mlx_bits(kind: GgmlType) -> Option<usize> {
    match kind {
        GgmlType::Q4_0 | GgmlType::Q4_1 => Some(4),
        GgmlType::Q8_0 => Some(8),
        _ => None,
    }
}

/// Repacks `rows` by `columns` numbers.
pub fn to_mlx(kind: GgmlType, bytes: &[u8], rows: usize, columns: usize) -> Result<Packed> {
    let Some(bits) = mlx_bits(kind) else {
        bail!(
            Unsupported,
            "{kind} has no exact counterpart among MLX's layouts (Q4_0, Q4_1 and Q8_0 have); dequantise it"
        )
    };
    let expected = kind.byte_len(&[rows, columns])?;
    if bytes.len() != expected {
        bail!(Shape, "{rows} x {columns} numbers of {kind} take {expected} bytes, not {}", bytes.len());
    }
    let groups = rows * columns / GROUP_SIZE;
    let mut packed = Packed {
        weight: Vec::with_capacity(groups * bits),
        scales: Vec::with_capacity(groups),
        biases: Vec::with_capacity(groups),
        bits,
        group_size: GROUP_SIZE,
    };
    for block in bytes.chunks_exact(kind.block_bytes()) {
        let scale = f16::from_le_bytes([block[0], block[1]]);
        let (bias, integers) = match kind {
            GgmlType::Q4_0 => (times(scale, -8.0)?, &block[2..]),
            GgmlType::Q4_1 => (f16::from_le_bytes([block[2], block[3]]), &block[4..]),
            _ => (times(scale, -128.0)?, &block[2..]),
        };
        packed.scales.push(scale.to_bits());
        packed.biases.push(bias.to_bits());
        if bits == 4 {
            // The low nibbles are the first half of the group, the high nibbles the second.
            packed.weight.extend(integers.chunks_exact(8).map(|eight| nibbles(eight, 0)));
            packed.weight.extend(integers.chunks_exact(8).map(|eight| nibbles(eight, 4)));
        } else {
            // Signed to unsigned: adding 128 to a byte flips its highest bit.
            let (words, _) = integers.as_chunks::<4>();
            packed.weight.extend(words.iter().map(|w| u32::from_le_bytes(*w) ^ 0x8080_8080));
        }
    }
    Ok(packed)
}

/// One nibble of each of eight bytes, in order, as one word.
fn nibbles(bytes: &[u8], shift: usize) -> u32 {
    bytes.iter().rev().fold(0, |word, b| word << 4 | u32::from(b >> shift & 15))
}

fn times(scale: f16, factor: f32) -> Result<f16> {
    let bias = f16::from_f32(scale.to_f32() * factor);
    if !bias.is_finite() {
        bail!(Unsupported, "a block's scale {scale} is too large for a half-precision bias; load the model unpacked")
    }
    Ok(bias)
}

#[cfg(test)]
mod tests;
