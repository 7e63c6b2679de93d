//! The K formats: blocks of 256 numbers in runs of 16 or 32, each run with a small integer scale of its own.

use super::half_at;

/// 16 bytes of scale and minimum nibbles, 64 of two-bit numbers, d, dmin.
pub(super) fn q2_k(b: &[u8; 84], y: &mut [f32; 256]) {
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    for (run, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(b[run] & 15);
        let least = dmin * f32::from(b[run] >> 4);
        let (bytes, shift) = crumbs(&b[16..80], run);
        for (y, q) in y.iter_mut().zip(bytes) {
            *y = scale * f32::from(q >> shift & 3) - least;
        }
    }
}

/// 32 bytes of third bits, 64 of two-bit numbers, 12 of six-bit scales, d.
pub(super) fn q3_k(b: &[u8; 110], y: &mut [f32; 256]) {
    let d = half_at(b, 108);
    let scales = &b[96..108];
    for (run, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[run % 8] >> (run / 8 * 4) & 15;
        let high = scales[8 + run % 4] >> (run / 4 * 2) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let (bytes, shift) = crumbs(&b[32..96], run);
        let thirds = &b[run % 2 * 16..];
        for ((y, q), third) in y.iter_mut().zip(bytes).zip(thirds) {
            // A set bit stands for 0, a clear one for -4.
            let third = (third >> (run / 2) & 1) as i8 * 4 - 4;
            *y = scale * f32::from((q >> shift & 3) as i8 + third);
        }
    }
}

/// Where the two-bit numbers of a run of 16 lie: 32 bytes hold 128 numbers, 32 at each of four shifts.
fn crumbs(quants: &[u8], run: usize) -> (&[u8], usize) {
    let at = run / 8 * 32 + run % 2 * 16;
    (&quants[at..at + 16], run % 8 / 2 * 2)
}

/// d, dmin, 12 bytes of six-bit scales and minima, 128 of four-bit numbers.
pub(super) fn q4_k(b: &[u8; 144], y: &mut [f32; 256]) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for (run, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&b[4..16], run);
        let (scale, least) = (d * scale, dmin * least);
        let (at, shift) = (16 + run / 2 * 32, run % 2 * 4);
        for (y, q) in y.iter_mut().zip(&b[at..at + 32]) {
            *y = scale * f32::from(q >> shift & 15) - least;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits before the four-bit numbers.
pub(super) fn q5_k(b: &[u8; 176], y: &mut [f32; 256]) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for (run, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, least) = scale_and_least(&b[4..16], run);
        let (scale, least) = (d * scale, dmin * least);
        let (at, shift) = (48 + run / 2 * 32, run % 2 * 4);
        for ((y, q), fifth) in y.iter_mut().zip(&b[at..at + 32]).zip(&b[16..48]) {
            *y = scale * f32::from(q >> shift & 15 | (fifth >> run & 1) << 4) - least;
        }
    }
}

/// Scale and minimum of one of eight runs, six bits each: those of the first four runs lie plainly in bytes 0 to 3
/// and 4 to 7; of the last four, the low nibbles share bytes 8 to 11 and the upper two bits top up bytes 0 to 7.
fn scale_and_least(packed: &[u8], run: usize) -> (f32, f32) {
    let (scale, least) = if run < 4 {
        (packed[run] & 63, packed[run + 4] & 63)
    } else {
        let both = packed[run + 4];
        (both & 15 | packed[run - 4] >> 6 << 4, both >> 4 | packed[run] >> 6 << 4)
    };
    (f32::from(scale), f32::from(least))
}

/// 128 bytes of low nibbles, 64 of upper two bits, 16 signed scales, d.
pub(super) fn q6_k(b: &[u8; 210], y: &mut [f32; 256]) {
    let d = half_at(b, 208);
    for (run, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(b[192 + run] as i8);
        // Each half of 128 numbers has 64 bytes of nibbles: numbers 0 to 63 low, 64 to 127 high.
        let at = run / 8 * 64 + run % 4 * 16;
        let nibble_shift = run % 8 / 4 * 4;
        let (upper, upper_shift) = crumbs(&b[128..192], run);
        for ((y, q), u) in y.iter_mut().zip(&b[at..at + 16]).zip(upper) {
            *y = scale * f32::from((q >> nibble_shift & 15 | (u >> upper_shift & 3) << 4) as i8 - 32);
        }
    }
}

/// A float32 scale, 256 signed bytes, and sums that only products need.
pub(super) fn q8_k(b: &[u8; 292], y: &mut [f32; 256]) {
    let d = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    for (y, q) in y.iter_mut().zip(&b[4..260]) {
        *y = d * f32::from(*q as i8);
    }
}
