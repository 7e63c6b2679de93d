//! The formats whose four-bit numbers are places in a table.

use super::half_at;

/// Steps that are finer near zero, where most weights are.
const UNEVEN: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// Twice the values of a four-bit float with two bits of exponent and one of mantissa.
const E2M1_TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn look_up(table: &[i8; 16], scale: f32, packed: &[u8], y: &mut [f32]) {
    let (low, high) = y.split_at_mut(16);
    for ((q, l), h) in packed.iter().zip(low).zip(high) {
        *l = scale * f32::from(table[usize::from(q & 15)]);
        *h = scale * f32::from(table[usize::from(q >> 4)]);
    }
}

pub(super) fn iq4_nl(b: &[u8; 18], y: &mut [f32; 32]) {
    look_up(&UNEVEN, half_at(b, 0), &b[2..], y);
}

/// d, 16 bits of upper scale bits, four bytes of scale nibbles, 128 of numbers.
pub(super) fn iq4_xs(b: &[u8; 136], y: &mut [f32; 256]) {
    let d = half_at(b, 0);
    let upper = u16::from_le_bytes([b[2], b[3]]);
    for (run, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = b[4 + run / 2] >> (run % 2 * 4) & 15;
        let scale = (low | ((upper >> (run * 2) & 3) as u8) << 4) as i8 - 32;
        look_up(&UNEVEN, d * f32::from(scale), &b[8 + run * 16..24 + run * 16], y);
    }
}

pub(super) fn mxfp4(b: &[u8; 17], y: &mut [f32; 32]) {
    // A byte of exponent e stands for 2^(e - 127); half of it, since the table is doubled. The two lowest are
    // subnormal in float32.
    let e = u32::from(b[0]);
    let scale = f32::from_bits(if e < 2 { 0x0020_0000 << e } else { (e - 1) << 23 });
    look_up(&E2M1_TWICE, scale, &b[1..], y);
}
