//! The formats with one scale per 32 numbers. Low nibbles are numbers 0 to 15, high nibbles 16 to 31.

use super::half_at;

pub(super) fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for i in 0..16 {
        let q = b[2 + i];
        y[i] = f32::from((q & 15) as i8 - 8) * d;
        y[i + 16] = f32::from((q >> 4) as i8 - 8) * d;
    }
}

pub(super) fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    for i in 0..16 {
        let q = b[4 + i];
        y[i] = f32::from(q & 15) * d + m;
        y[i + 16] = f32::from(q >> 4) * d + m;
    }
}

pub(super) fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
    for i in 0..16 {
        let (low, up) = fives(b[6 + i], high, i);
        y[i] = f32::from(low as i8 - 16) * d;
        y[i + 16] = f32::from(up as i8 - 16) * d;
    }
}

pub(super) fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
    for i in 0..16 {
        let (low, up) = fives(b[8 + i], high, i);
        y[i] = f32::from(low) * d + m;
        y[i + 16] = f32::from(up) * d + m;
    }
}

/// Numbers `i` and `i + 16`: four bits each from a byte, the fifth from a word that holds one per number.
fn fives(q: u8, high: u32, i: usize) -> (u8, u8) {
    let fifth = |at: usize| ((high >> at & 1) as u8) << 4;
    (q & 15 | fifth(i), q >> 4 | fifth(i + 16))
}

pub(super) fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for i in 0..32 {
        y[i] = f32::from(b[2 + i] as i8) * d;
    }
}
