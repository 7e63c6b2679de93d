//! Each operation against a plain computation over numbers.

use super::*;
use crate::core::tensor::Quantization;

fn array(data: &[f32], shape: &[usize]) -> Array {
    Array::from_slice(data, shape).unwrap()
}

/// Numbers without a pattern, from -1 to 1.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn close(a: &Array, expected: &[f32], bound: f32) {
    let found = a.to_vec::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= bound * e.abs().max(1.0), "{f} is not {e}");
    }
}

fn run(choice: Choice, x: &[&Array]) -> Vec<Array> {
    let parameters = Parameters::of_arrays(Vec::new());
    let batch = crate::core::trace::Batch::new(vec![vec![0; 6]], 10, None, 0).unwrap();
    let mut masks = crate::core::trace::attention::Masks::default();
    let mut around =
        Surroundings { parameters: &parameters, batch: &batch, masks: &mut masks, cache: None, kept: None };
    choose(&choice, x, &mut around).unwrap().into_vec()
}

fn top_k(k: usize) -> Choice {
    Choice::TopK { k, groups: 1, keep: 1, by_best: false, fill: 0.0 }
}

#[test]
fn the_largest_come_first_and_of_equals_the_first() {
    let s = array(&[0.1, 0.9, 0.9, 0.5, -3.0, -1.0, -1.0, -2.0], &[1, 2, 4]);
    let idx = run(top_k(3), &[&s]).remove(0);
    assert_eq!(idx.to_vec::<u32>().unwrap(), [1, 2, 3, 1, 2, 3]);
    let picked = run(Choice::Take, &[&s, &idx]).remove(0);
    assert_eq!(picked.to_vec::<f32>().unwrap(), [0.9, 0.9, 0.5, -1.0, -1.0, -2.0]);
}

#[test]
fn other_scores_may_decide() {
    let (s, by) = (array(&[0.1, 0.2, 0.3, 0.4], &[1, 1, 4]), array(&[4.0, 3.0, 2.0, 1.0], &[1, 1, 4]));
    assert_eq!(run(top_k(2), &[&s, &by])[0].to_vec::<u32>().unwrap(), [0, 1]);
}

#[test]
fn groups_left_out_count_as_the_fill() {
    // Groups (3, 1), (2.5, 2.4), (-1, -2): by their best the first wins, by the sum of two the second.
    let s = array(&[3.0, 1.0, 2.5, 2.4, -1.0, -2.0], &[1, 1, 6]);
    let of = |by_best, fill, k| {
        let choice = Choice::TopK { k, groups: 3, keep: 1, by_best, fill };
        run(choice, &[&s])[0].to_vec::<u32>().unwrap()
    };
    assert_eq!(of(true, 0.0, 2), [0, 1]);
    assert_eq!(of(false, 0.0, 2), [2, 3]);
    assert_eq!(of(true, f64::NEG_INFINITY, 3)[..2], [0, 1]);
    // A group left out counts as 0, which may be more than a negative score of one that stays.
    let negative = array(&[-3.0, -1.0, -2.5, -2.4], &[1, 1, 4]);
    let choice = Choice::TopK { k: 1, groups: 2, keep: 1, by_best: true, fill: 0.0 };
    assert_eq!(run(choice, &[&negative])[0].to_vec::<u32>().unwrap(), [2]);
}

#[test]
fn combining_is_a_weighted_sum_over_the_chosen() {
    let (y, w) = (numbers(2 * 3 * 4 * 5, 1), numbers(2 * 3 * 4, 2));
    let mut expected = vec![0.0; 2 * 3 * 5];
    for t in 0..6 {
        for k in 0..4 {
            for d in 0..5 {
                expected[t * 5 + d] += y[(t * 4 + k) * 5 + d] * w[t * 4 + k];
            }
        }
    }
    close(&run(Choice::Combine, &[&array(&y, &[2, 3, 4, 5]), &array(&w, &[2, 3, 4])])[0], &expected, 1e-6);
    let half = t::cast(&array(&y, &[2, 3, 4, 5]), crate::core::tensor::Dtype::Bfloat16).unwrap();
    let out = run(Choice::Combine, &[&half, &array(&w, &[2, 3, 4])]).remove(0);
    assert_eq!(out.dtype(), crate::core::tensor::Dtype::Bfloat16);
}

#[test]
fn the_sparse_mixer_weighs_each_among_those_close_to_it() {
    let jitter = 0.01f32;
    let s = numbers(5 * 6, 3);
    let (mut chosen, mut weights) = (Vec::new(), Vec::new());
    for row in s.chunks(6) {
        let mut left = row.to_vec();
        for _ in 0..2 {
            let top = left.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let place = left.iter().position(|v| *v == top).unwrap();
            let close = |e: usize| (top - row[e]) / row[e].abs().max(top) <= 2.0 * jitter;
            let sum: f32 = (0..6).filter(|e| close(*e)).map(|e| (left[e] - top).exp()).sum();
            weights.push(1.0 / sum);
            chosen.push(place as u32);
            left[place] = f32::NEG_INFINITY;
        }
    }
    let out = run(Choice::SparseMixer { k: 2, jitter: f64::from(jitter) }, &[&array(&s, &[1, 5, 6])]);
    assert_eq!(out[0].to_vec::<u32>().unwrap(), chosen);
    close(&out[1], &weights, 1e-5);
}

/// `x W_e^T + b_e` number by number.
fn expected_switch(x: &[f32], w: &[f32], b: &[f32], chosen: &[u32], per_slot: bool, [n, k]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::new();
    for (slot, e) in chosen.iter().enumerate() {
        let row = if per_slot { slot } else { slot / 2 };
        for o in 0..n {
            let matrix = &w[(*e as usize * n + o) * k..][..k];
            let product: f32 = matrix.iter().zip(&x[row * k..][..k]).map(|(a, b)| a * b).sum();
            out.push(product + b[*e as usize * n + o]);
        }
    }
    out
}

fn weights() -> Weights {
    Weights { path: "experts".into(), weight: 0, bias: Some(1), scales: Some(2), biases: Some(3) }
}

#[test]
fn each_token_goes_through_the_matrices_it_chose() {
    let (experts, n, k) = (5, 3, 32);
    let (w, b) = (numbers(experts * n * k, 4), numbers(experts * n, 5));
    let chosen = [4u32, 0, 2, 2, 1, 3, 0, 4];
    let idx = Array::from_slice(&chosen, &[2, 2, 2]).unwrap();
    let p = Parameters::of_arrays(vec![Some(array(&w, &[experts, n, k])), Some(array(&b, &[experts, n])), None, None]);
    let dense = Weights { scales: None, biases: None, ..weights() };
    let x = numbers(4 * k, 6);
    let y = switch(&dense, true, &array(&x, &[2, 2, k]), &idx, &p).unwrap();
    assert_eq!(y.shape(), [2, 2, 2, 1, n as i32]);
    close(&y, &expected_switch(&x, &w, &b, &chosen, false, [n, k]), 1e-5);
    let x = numbers(8 * k, 7);
    let y = switch(&dense, true, &array(&x, &[2, 2, 2, 1, k]), &idx, &p).unwrap();
    close(&y, &expected_switch(&x, &w, &b, &chosen, true, [n, k]), 1e-5);
    // Half precision goes through float32 on the CPU backend and comes back.
    let half = t::cast(&array(&x, &[2, 2, 2, 1, k]), crate::core::tensor::Dtype::Bfloat16).unwrap();
    let y = switch(&Weights { bias: None, ..dense.clone() }, true, &half, &idx, &p).unwrap();
    assert_eq!(y.dtype(), crate::core::tensor::Dtype::Bfloat16);
    // A choice that nobody checked stays inside.
    let wild = Array::from_slice(&[9u32, 0, 2, 2, 1, 3, 0, u32::MAX], &[2, 2, 2]).unwrap();
    let y = switch(&dense, false, &array(&x, &[2, 2, 2, 1, k]), &wild, &p).unwrap();
    close(&y, &expected_switch(&x, &w, &b, &chosen, true, [n, k]), 1e-5);
}

#[test]
fn packed_experts_give_what_their_unpacked_matrices_give() {
    let (experts, n, k) = (3, 64, 64);
    let chosen = [2u32, 0, 1, 1];
    let idx = Array::from_slice(&chosen, &[1, 2, 2]).unwrap();
    let x = numbers(2 * k, 8);
    for (bits, group_size, mode) in [
        (2, 32, "affine"),
        (3, 64, "affine"),
        (4, 32, "affine"),
        (5, 64, "affine"),
        (6, 32, "affine"),
        (8, 64, "affine"),
        (4, 32, "mxfp4"),
        (8, 32, "mxfp8"),
        (4, 16, "nvfp4"),
    ] {
        let q = Quantization { group_size, bits, mode: mode.to_owned() };
        let w = array(&numbers(experts * n * k, 9), &[experts, n, k]);
        let mut parts = t::quantize(&w, &q).unwrap();
        let biases = (parts.len() == 3).then(|| parts.remove(2));
        let (scales, packed) = (parts.remove(1), parts.remove(0));
        let dense = t::dequantize(&packed, &scales, biases.as_ref(), &q, crate::core::tensor::Dtype::Float32).unwrap();
        let b = numbers(experts * n, 10);
        let w = Weights { biases: biases.as_ref().map(|_| 3), ..weights() };
        let p = Parameters::packed_arrays(
            vec![Some(packed), Some(array(&b, &[experts, n])), Some(scales), biases],
            vec![Some(q), None, None, None],
        );
        let y = switch(&w, true, &array(&x, &[1, 2, k]), &idx, &p).unwrap();
        let dense = dense.to_vec::<f32>().unwrap();
        close(&y, &expected_switch(&x, &dense, &b, &chosen, false, [n, k]), 1e-4);
    }
}

#[test]
fn places_are_filled_and_features_masked() {
    let x = array(&[0.0; 6], &[1, 2, 3]);
    let idx = Array::from_slice(&[2u32, 0], &[1, 2, 1]).unwrap();
    let out = run(Choice::Put, &[&x, &idx, &array(&[5.0, 6.0], &[1, 2, 1])]).remove(0);
    assert_eq!(out.to_vec::<f32>().unwrap(), [0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
    let masked = run(Choice::MaskIds(vec![1, 7]), &[&out])[0].to_vec::<f32>().unwrap();
    assert_eq!(masked, [0.0, f32::NEG_INFINITY, 5.0, 6.0, f32::NEG_INFINITY, 0.0]);
    assert_eq!(run(Choice::ArgMax, &[&out])[0].to_vec::<u32>().unwrap(), [2, 0]);
    let rows = array(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
    let ids = Array::from_slice(&[1i32, 0, 9], &[1, 3]).unwrap();
    assert_eq!(run(Choice::Gather, &[&rows, &ids])[0].to_vec::<f32>().unwrap(), [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn the_best_keys_are_among_those_a_query_may_see() {
    let s = numbers(36, 11);
    let mask = run(Choice::TopKMask { k: 2 }, &[&array(&s, &[1, 1, 6, 6])])[0].to_vec::<bool>().unwrap();
    for q in 0..6 {
        let row = &s[q * 6..][..6];
        for k in 0..=q {
            let better = (0..=q).filter(|o| row[*o] > row[k]).count();
            assert_eq!(mask[q * 6 + k], better < 2, "query {q}, key {k}");
        }
    }
    let few = run(Choice::TopKMask { k: 6 }, &[&array(&s, &[1, 1, 6, 6])])[0].to_vec::<bool>().unwrap();
    assert!(few.iter().all(|m| *m));
}

#[test]
fn blocks_are_near_or_every_so_many() {
    let (block, local, stride) = (2, 1, 4);
    let x = array(&numbers(2 * 6 * 4, 12), &[1, 2, 6, 4]);
    let mask = run(Choice::BlockSparse { block, local, stride }, &[&x, &x])[0].to_vec::<bool>().unwrap();
    for head in 0..2 {
        for q in 0..6 {
            for k in 0..6 {
                let (qb, kb) = (q / block, k / block);
                let expected = qb >= kb && (qb - kb < local || (kb + head * (stride / 2).max(1) + 1) % stride == 0);
                assert_eq!(mask[(head * 6 + q) * 6 + k], expected, "head {head}, query {q}, key {k}");
            }
        }
    }
}
