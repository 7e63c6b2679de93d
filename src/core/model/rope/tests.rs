use serde_json::json;

use super::*;

const BASE: f64 = 50.0;

fn rotation(dims: usize, interleaved: bool, scaling: Value) -> Result<Rotation> {
    Rotation::new(&Rope { dims, base: BASE, scaling: Some(scaling), interleaved, max_pos: Some(8.0) })
}

fn features() -> (Vec<f32>, Array) {
    let x: Vec<f32> = (0..2 * 3 * 10).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
    let array = Array::from_slice(&x, &[1, 2, 3, 10]).unwrap();
    (x, array)
}

/// Turns pair `j` of every position `p` by `angle(p, j)`, one number after another.
fn by_hand(x: &[f32], dims: usize, interleaved: bool, first: usize, angle: impl Fn(f64, usize) -> f64) -> Vec<f32> {
    let mut out = x.to_vec();
    for (row, turned) in out.chunks_mut(10).enumerate() {
        let position = (first + row % 3) as f64;
        for j in 0..dims / 2 {
            let (a, b) = if interleaved { (2 * j, 2 * j + 1) } else { (j, j + dims / 2) };
            let (sin, cos) = angle(position, j).sin_cos();
            let (u, v) = (f64::from(x[row * 10 + a]), f64::from(x[row * 10 + b]));
            turned[a] = (u * cos - v * sin) as f32;
            turned[b] = (v * cos + u * sin) as f32;
        }
    }
    out
}

fn same(got: &Array, want: &[f32]) {
    let got: Vec<f32> = tensor::contiguous(got).unwrap().to_vec().unwrap();
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 2e-5, "{g} is not {w}");
    }
}

fn speed(dims: usize, base: f64, j: usize) -> f64 {
    base.powf(-2.0 * j as f64 / dims as f64)
}

#[test]
fn every_kind_turns_as_its_formula_says() {
    let (x, array) = features();
    let check = |dims: usize, interleaved: bool, scaling: Value, angle: &dyn Fn(f64, usize) -> f64| {
        let turned = rotation(dims, interleaved, scaling).unwrap().apply(&array, &[4], &[3]).unwrap();
        same(&turned, &by_hand(&x, dims, interleaved, 4, angle));
    };
    check(10, false, json!({"type": "default"}), &|p, j| p * speed(10, BASE, j));
    check(6, true, json!({"rope_type": "default"}), &|p, j| p * speed(6, BASE, j));
    check(8, false, json!({"type": "linear", "factor": 2.5}), &|p, j| p / 2.5 * speed(8, BASE, j));
    check(10, false, json!({"type": "alpha", "alpha": 30.0}), &|p, j| p * speed(10, BASE * 30f64.powf(10.0 / 8.0), j));
    check(10, false, json!({"type": "reversed"}), &|p, j| -p * speed(10, BASE, j));
    check(10, false, json!({"type": "proportional", "partial_rotary_factor": 0.4, "factor": 3.0}), &|p, j| {
        if j < 2 { p / 3.0 * speed(10, BASE, j) } else { 0.0 }
    });
    check(10, true, json!({"type": "factors", "factors": [1.0, 2.0, 3.0, 4.0, 5.0]}), &|p, j| {
        p / (j + 1) as f64 * speed(10, BASE, j)
    });
    // Positions 4 to 6 are fewer than the 8 trained ones.
    check(10, false, json!({"type": "dynamic", "factor": 2.0}), &|p, j| p * speed(10, BASE, j));
}

#[test]
fn the_base_grows_with_rows_longer_than_trained() {
    let (x, array) = features();
    let turned =
        rotation(10, false, json!({"type": "dynamic", "factor": 2.0})).unwrap().apply(&array, &[13], &[3]).unwrap();
    let grown = BASE * (2.0 * 16.0 / 8.0 - 1.0f64).powf(10.0 / 8.0);
    same(&turned, &by_hand(&x, 10, false, 13, |p, j| p * speed(10, grown, j)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let message = |scaling: Value| rotation(10, false, scaling).err().unwrap().message().to_owned();
    assert!(message(json!({"type": "spiral"})).starts_with("rope_scaling of type 'spiral' is not known"));
    assert_eq!(
        message(json!({"type": "alpha"})),
        "rope_scaling.alpha in config.json must be a positive number, found nothing"
    );
    assert_eq!(
        message(json!({"type": "proportional", "partial_rotary_factor": 1.5})),
        "rope_scaling.partial_rotary_factor must be between 0 and 1, found 1.5"
    );
}
