use std::collections::BTreeMap;

use super::*;

fn value(expr: &WeightExpr, tensors: &BTreeMap<&str, Array>) -> Vec<f32> {
    let made = evaluate(expr, &mut |name| Ok(tensors[name].clone())).unwrap();
    t::contiguous(&t::cast(&made, Dtype::Float32).unwrap()).unwrap().to_vec().unwrap()
}

fn raw(name: &str) -> WeightExpr {
    WeightExpr::Raw(name.to_owned())
}

#[test]
fn every_byte_is_the_float_that_the_format_says() {
    // sign, exponent with bias 7, mantissa; the smallest exponent has no leading one, the last code is no number.
    assert_eq!([0x00, 0x01, 0x07, 0x08, 0x38, 0x3c, 0x7e, 0xb8, 0xfe].map(e4m3), {
        let small = 1.0 / 512.0;
        [0.0, small, 7.0 * small, 1.0 / 64.0, 1.0, 1.5, 448.0, -1.0, -448.0]
    });
    assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    let all: Vec<f32> = (0..0x7f).map(e4m3).collect();
    assert!(all.is_sorted_by(|a, b| a < b), "codes are in the order of their values");
}

#[test]
fn each_block_has_its_scale_and_the_last_ones_are_cut_off() {
    let bytes: Vec<u8> = (0..2 * 3 * 5).map(|i| (i * 7 % 0x7e) as u8).collect();
    let scales: Vec<f32> = (0..2 * 2 * 3).map(|i| 0.5 + i as f32).collect();
    let tensors = BTreeMap::from([
        ("w", Array::from_slice(&bytes, &[2, 3, 5]).unwrap()),
        ("s", Array::from_slice(&scales, &[2, 2, 3]).unwrap()),
        ("e", Array::from_slice(&[2f32, 3.0], &[2, 1, 1]).unwrap()),
        ("one", Array::from_slice(&[4f32], &[]).unwrap()),
    ]);
    let made = |scale: Option<&str>| {
        let blocks = Blocks { weight: raw("w"), scale: scale.map(raw), size: [2, 2] };
        value(&WeightExpr::Blocks(Box::new(blocks)), &tensors)
    };
    let by_hand = |scale: &dyn Fn(usize, usize, usize) -> f32| -> Vec<f32> {
        let at = |i: usize| (i / 15, i / 5 % 3, i % 5);
        (0..30).map(|i| e4m3(bytes[i]) * scale(at(i).0, at(i).1, at(i).2)).collect()
    };
    assert_eq!(made(Some("s")), by_hand(&|e, r, c| scales[e * 6 + r / 2 * 3 + c / 2]));
    assert_eq!(made(Some("e")), by_hand(&|e, _, _| [2.0, 3.0][e]));
    assert_eq!(made(Some("one")), by_hand(&|_, _, _| 4.0));
    assert_eq!(made(None), by_hand(&|_, _, _| 1.0));
}

#[test]
fn signed_nibbles_are_unpacked_with_their_groups_scale() {
    // A row of 64 integers from -8 to 7, stored plus 8, the first in the lowest bits; two groups of 32.
    let numbers: Vec<i32> = (0..64).map(|i| (i * 5 % 16) - 8).collect();
    let words: Vec<i32> = numbers
        .chunks(8)
        .map(|w| w.iter().enumerate().fold(0u32, |a, (i, v)| a | (((v + 8) as u32) << (4 * i))) as i32)
        .collect();
    let tensors = BTreeMap::from([
        ("p", Array::from_slice(&words, &[1, 8]).unwrap()),
        ("s", Array::from_slice(&[0.5f32, 0.25], &[1, 2]).unwrap()),
    ]);
    let packed = Packed {
        weight: WeightExpr::Words(Box::new(raw("p"))),
        scales: raw("s"),
        biases: Some(WeightExpr::Times(-8.0, Box::new(raw("s")))),
        bits: 4,
        group_size: 32,
    };
    let want: Vec<f32> = numbers.iter().enumerate().map(|(i, v)| *v as f32 * [0.5, 0.25][i / 32]).collect();
    assert_eq!(value(&WeightExpr::Dequantise(Box::new(packed)), &tensors), want);
}
