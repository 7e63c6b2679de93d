//! Each operation against a plain computation over numbers, in one run and in two with a padded first.

use super::*;
use crate::core::model::Parameters;
use crate::core::trace::attention::Masks;
use crate::core::trace::cache::{Cache, State};

/// What an operation makes of a batch after `cache`, and what it remembers.
fn run(op: &Special, x: &[&Array], rows: Vec<Vec<u32>>, cache: &Cache) -> (Array, Option<State>) {
    let parameters = Parameters::of_arrays(Vec::new());
    let batch = Batch::new(rows, 100, None, 0).unwrap().after(cache, None).unwrap();
    let (mut masks, mut kept) = (Masks::default(), [None]);
    let made = {
        let mut around = Surroundings {
            parameters: &parameters,
            batch: &batch,
            masks: &mut masks,
            cache: Some(cache),
            kept: Some(&mut kept),
        };
        special(op, 0, x, &mut around).unwrap().remove(0)
    };
    let [state] = kept;
    (made, state)
}

fn alone(op: &Special, x: &[&Array], tokens: usize) -> Array {
    run(op, x, vec![vec![0; tokens]; x[0].dim(0)], &Cache::default()).0
}

fn numbers(a: &Array) -> Vec<f32> {
    t::contiguous(&t::cast(a, Dtype::Float32).unwrap()).unwrap().to_vec().unwrap()
}

fn ramp(shape: &[usize]) -> Array {
    let n: usize = shape.iter().product();
    Array::from_slice(&(0..n).map(|i| ((i * 29 % 31) as f32 - 15.0) / 6.0).collect::<Vec<_>>(), shape).unwrap()
}

#[test]
fn shapes_change_as_they_are_told_to() {
    let x = ramp(&[2, 1, 3, 2]);
    let wide = alone(&Special::BroadcastHeads { n: 2 }, &[&x], 3);
    assert_eq!(wide.dims(), [2, 2, 3, 2]);
    let (from, to) = (numbers(&x), numbers(&wide));
    assert!((0..24).all(|i| to[i] == from[i / 12 * 6 + i % 6]));
    let tiled = alone(&Special::Tile { reps: vec![1, 2, 1, 2] }, &[&x], 3);
    assert_eq!(tiled.dims(), [2, 2, 3, 4]);
    let tiled = numbers(&tiled);
    assert!((0..48).all(|i| tiled[i] == from[i / 24 * 6 + i / 4 % 3 * 2 + i % 2]));
    assert_eq!(alone(&Special::Reshape { shape: vec![4, -1] }, &[&x], 3).dims(), [4, 3]);
}

#[test]
fn positions_count_from_each_rows_own_beginning() {
    let x = ramp(&[2, 4, 3, 5]);
    let rows = || vec![vec![0; 3]; 2];
    let op = Special::PositionAxis { start: 1 };
    let (made, _) = run(&op, &[&x], rows(), &Cache::default());
    assert_eq!((made.dims(), numbers(&made)), (vec![3], vec![1.0, 2.0, 3.0]));
    let uneven = Cache::of_states(&[2, 4], vec![None]);
    let (made, _) = run(&op, &[&x], rows(), &uneven);
    assert_eq!(made.dims(), [2, 1, 3]);
    assert_eq!(numbers(&made), [3.0, 4.0, 5.0, 5.0, 6.0, 7.0]);
    let hidden = ramp(&[2, 3, 4]);
    let (made, _) = run(&Special::IsStart, &[&hidden], rows(), &Cache::default());
    assert_eq!((made.dims(), numbers(&made)), (vec![2, 3, 1], vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
    let (made, _) = run(&Special::IsStart, &[&hidden], rows(), &uneven);
    assert_eq!(numbers(&made), [0.0; 6]);
}

#[test]
fn biases_grow_with_the_position_of_a_key() {
    let op = Special::Alibi { slopes: vec![0.5, 0.25] };
    let x = ramp(&[2, 2, 4]);
    let (made, _) = run(&op, &[&x], vec![vec![0; 2]; 2], &Cache::of_states(&[1, 3], vec![None]));
    assert_eq!(made.dims(), [2, 2, 1, 5]);
    let made = numbers(&made);
    // Row 0 has seen one token and two columns of padding, which no mask lets through.
    for (row, positions) in [[0.0, -1.0, -1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0, 4.0]].iter().enumerate() {
        for (head, slope) in [0.5f32, 0.25].into_iter().enumerate() {
            for (key, position) in positions.iter().enumerate().filter(|(_, p)| **p >= 0.0) {
                assert_eq!(made[(row * 2 + head) * 5 + key], slope * position, "row {row}, head {head}, key {key}");
            }
        }
    }
}

#[test]
fn xielu_is_its_formula() {
    let x = ramp(&[1, 2, 8]);
    let (alpha_p, alpha_n, beta, eps) = (0.7f64, -0.4, 0.5, -0.000001);
    let scalar = |v: f64| Array::from_slice(&[v as f32], &[]).unwrap();
    let params = [scalar(alpha_p), scalar(alpha_n), scalar(beta), scalar(eps)];
    let inputs: Vec<&Array> = std::iter::once(&x).chain(&params).collect();
    let made = numbers(&alone(&Special::XIelu, &inputs, 2));
    let softplus = |v: f64| v.exp().ln_1p();
    let (positive, negative) = (softplus(alpha_p), beta + softplus(alpha_n));
    for (got, x) in made.iter().zip(numbers(&x)) {
        let x = f64::from(x);
        let want = if x > 0.0 { positive * x * x + beta * x } else { (x.min(eps).exp_m1() - x) * negative + beta * x };
        assert!((f64::from(*got) - want).abs() < 1e-5, "xielu({x}) is {want}, found {got}");
    }
}

#[test]
fn two_taps_see_this_token_and_the_one_before() {
    let weight = ramp(&[1, 1, 2, 1, 2]);
    let taps = numbers(&weight);
    let (u, first, second) = (ramp(&[2, 2, 5, 3]), 3, 2);
    let values = numbers(&u);
    let at = |r: usize, h: usize, p: usize, f: usize| values[((r * 2 + h) * 5 + p) * 3 + f];
    let part = |from: i32, to: i32| t::slice(&u, &[0, 0, from, 0], &[2, 2, to, 3], &[1; 4]).unwrap();
    let op = Special::HeadConv2;
    // Row 0 has two tokens in the first step, row 1 has three: what follows row 0's own two is padding.
    let (one, state) = run(&op, &[&part(0, 3), &weight], vec![vec![0; 2], vec![0; 3]], &Cache::default());
    let cache = Cache::of_states(&[2, 3], vec![state]);
    let (two, _) = run(&op, &[&part(3, 5), &weight], vec![vec![0; 2]; 2], &cache);
    let (one, two) = (numbers(&one), numbers(&two));
    for r in 0..2 {
        let own = if r == 0 { vec![0, 1, 3, 4] } else { vec![0, 1, 2, 3, 4] };
        for h in 0..2 {
            for f in 0..3 {
                for (i, p) in own.iter().enumerate() {
                    let before = if i == 0 { 0.0 } else { at(r, h, own[i - 1], f) };
                    let want = before * taps[h * 2] + at(r, h, *p, f) * taps[h * 2 + 1];
                    let got = if *p < first {
                        one[((r * 2 + h) * first + p) * 3 + f]
                    } else {
                        two[((r * 2 + h) * second + p - first) * 3 + f]
                    };
                    assert!((got - want).abs() < 1e-6, "row {r}, head {h}, position {p}: {want}, found {got}");
                }
            }
        }
    }
}

#[test]
fn tokens_are_hashed_with_those_before_them() {
    let (vocabulary, modulus) = (50i64, 211i64);
    let op = Special::NGramIds { g: 3, vocabulary, modulus };
    let hash = |tokens: &[u32]| -> Vec<i64> {
        (0..tokens.len())
            .map(|p| {
                let before = |k: usize| p.checked_sub(k).map_or(0, |i| i64::from(tokens[i]));
                (before(0) + before(1) * vocabulary + before(2) * vocabulary * vocabulary) % modulus
            })
            .collect()
    };
    let rows = [vec![7u32, 49, 3, 12], vec![30, 1, 44, 8, 21]];
    let ids = |parts: &[&[u32]]| {
        let batch = Batch::new(parts.iter().map(|p| p.to_vec()).collect(), 100, None, 0).unwrap();
        batch.ids().clone()
    };
    let step = |parts: [&[u32]; 2], cache: &Cache| {
        let (made, state) = run(&op, &[&ids(&parts)], parts.iter().map(|p| p.to_vec()).collect(), cache);
        (made.to_vec::<i64>().unwrap(), state)
    };
    let (one, state) = step([&rows[0][..1], &rows[1][..3]], &Cache::default());
    let (two, _) = step([&rows[0][1..], &rows[1][3..]], &Cache::of_states(&[1, 3], vec![state]));
    let [first, second] = [hash(&rows[0]), hash(&rows[1])];
    assert_eq!((one[0], &one[3..6]), (first[0], &second[..3]));
    assert_eq!((&two[..3], &two[3..5]), (&first[1..], &second[3..]));
}
