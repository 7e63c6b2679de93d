//! Every recurrence against a loop over time in double precision, in pieces and in padded batches.

use proptest::prelude::*;

use super::*;

/// Reproducible numbers in -1..1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    fn array(&mut self, shape: &[usize], f: impl Fn(f32) -> f32) -> Array {
        let all: Vec<f32> = (0..shape.iter().product()).map(|_| f(self.next())).collect();
        Array::from_slice(&all, shape).unwrap()
    }
}

/// One recurrence with inputs for `batch` rows of `length` positions. Which axis of each input is that of positions.
struct Case {
    kind: Recurrence,
    inputs: Vec<Array>,
    time: Vec<Option<usize>>,
    out_time: usize,
}

/// The shape of an input, and which of its axes is that of positions.
type Input = (Vec<usize>, Option<usize>);

const NAMES: [&str; 7] = ["ssd", "selective", "delta", "kda", "wkv7", "gla", "linear"];

fn case(name: &str, batch: usize, length: usize, seed: u64) -> Case {
    let mut n = Numbers(seed);
    let plain = |v: f32| v;
    let step = |v: f32| (v + 1.001) * 0.4;
    let rate = |v: f32| -0.05 - (v + 1.0);
    // Mostly mild, sometimes nearly everything at once.
    let gate = |v: f32| if v > 0.9 { -20.0 } else { (v - 1.0) * 0.3 };
    let (kind, shapes): (Recurrence, Vec<Input>) = match name {
        "ssd" => (
            Recurrence::Ssd { groups: 2 },
            vec![
                (vec![batch, length, 12], Some(1)),
                (vec![batch, length, 4], Some(1)),
                (vec![4], None),
                (vec![batch, length, 10], Some(1)),
                (vec![batch, length, 10], Some(1)),
                (vec![4], None),
            ],
        ),
        "selective" => (
            Recurrence::SelectiveScan,
            vec![
                (vec![batch, length, 6], Some(1)),
                (vec![batch, length, 6], Some(1)),
                (vec![6, 5], None),
                (vec![batch, length, 5], Some(1)),
                (vec![batch, length, 5], Some(1)),
                (vec![6], None),
            ],
        ),
        "delta" | "kda" => (
            Recurrence::GatedDelta,
            vec![
                (vec![batch, length, 2, 5], Some(1)),
                (vec![batch, length, 2, 5], Some(1)),
                (vec![batch, length, 4, 3], Some(1)),
                (if name == "kda" { vec![batch, length, 4, 5] } else { vec![batch, length, 4] }, Some(1)),
                (vec![batch, length, 4], Some(1)),
            ],
        ),
        "wkv7" => (Recurrence::Wkv7, vec![(vec![batch, length, 2, 4], Some(1)); 6]),
        "gla" => (
            Recurrence::Gla { decay: vec![-0.01, -0.7, -3.0], scale: 0.5 },
            vec![
                (vec![batch, 3, length, 4], Some(2)),
                (vec![batch, 3, length, 4], Some(2)),
                (vec![batch, 3, length, 5], Some(2)),
            ],
        ),
        _ => (Recurrence::LinearScan, vec![(vec![batch, length, 7], Some(1)); 2]),
    };
    let inputs = shapes.iter().enumerate().map(|(i, (shape, _))| match (name, i) {
        ("ssd" | "selective", 1) => n.array(shape, step),
        ("ssd" | "selective", 2) => n.array(shape, rate),
        ("delta" | "kda", 3) | ("wkv7", 1) => n.array(shape, gate),
        ("delta" | "kda", 4) => n.array(shape, |v| v + 1.0),
        ("delta" | "kda", 0 | 1) => {
            // Unit length, as the rule wants its keys.
            let x = n.array(shape, plain);
            t::div(&x, &t::norm(&x, -1, true).unwrap()).unwrap()
        }
        ("wkv7", 4) => {
            let x = n.array(shape, plain);
            t::neg(&t::div(&x, &t::norm(&x, -1, true).unwrap()).unwrap()).unwrap()
        }
        ("wkv7", 5) => n.array(shape, |v| v * 0.5),
        ("linear", 1) => n.array(shape, |v| (v + 1.0) * 0.5),
        _ => n.array(shape, plain),
    });
    let inputs: Vec<Array> = inputs.collect();
    Case { kind, inputs, time: shapes.iter().map(|(_, t)| *t).collect(), out_time: if name == "gla" { 2 } else { 1 } }
}

impl Case {
    fn run(&self, past: Option<&Array>, lengths: &[usize]) -> (Array, Array) {
        let inputs: Vec<&Array> = self.inputs.iter().collect();
        let width = self.inputs[0].dim(self.out_time as i32);
        scan(&self.kind, &inputs, past, &Rows::new(lengths, width)).unwrap()
    }

    fn piece(&self, from: usize, to: usize) -> Case {
        let inputs = self.inputs.iter().zip(&self.time);
        let inputs = inputs.map(|(x, t)| t.map_or(x.clone(), |t| part(x, t, from, to).unwrap()));
        Case { kind: self.kind.clone(), inputs: inputs.collect(), time: self.time.clone(), out_time: self.out_time }
    }

    fn row(&self, row: usize) -> Case {
        let inputs = self.inputs.iter().zip(&self.time);
        let inputs = inputs.map(|(x, t)| if t.is_some() { part(x, 0, row, row + 1).unwrap() } else { x.clone() });
        Case { kind: self.kind.clone(), inputs: inputs.collect(), time: self.time.clone(), out_time: self.out_time }
    }
}

fn doubles(x: &Array) -> Vec<f64> {
    f32(x).unwrap().to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// The values in the order of the result, and the last state, in a loop over time in double precision.
fn loop_over_time(name: &str, case: &Case) -> (Vec<f64>, Vec<f64>) {
    let x: Vec<Vec<f64>> = case.inputs.iter().map(doubles).collect();
    let dims = |i: usize| case.inputs[i].dims();
    let (batch, length) = (dims(0)[0], dims(0)[case.out_time]);
    match name {
        "ssd" => {
            let (heads, p, n, groups) = (4, 3, 5, 2);
            let (mut ys, mut states) = (Vec::new(), Vec::new());
            for b in 0..batch {
                let mut s = vec![0.0; heads * p * n];
                for t in 0..length {
                    let at = b * length + t;
                    for h in 0..heads {
                        let (dt, g) = (x[1][at * heads + h], h / (heads / groups));
                        for i in 0..p {
                            let u = x[0][(at * heads + h) * p + i];
                            let mut y = x[5][h] * u;
                            for j in 0..n {
                                let cell = &mut s[(h * p + i) * n + j];
                                *cell = (dt * x[2][h]).exp() * *cell + dt * u * x[3][(at * groups + g) * n + j];
                                y += *cell * x[4][(at * groups + g) * n + j];
                            }
                            ys.push(y);
                        }
                    }
                }
                states.extend(s);
            }
            (ys, states)
        }
        "selective" => {
            let (d, n) = (6, 5);
            let (mut ys, mut states) = (Vec::new(), Vec::new());
            for b in 0..batch {
                let mut s = vec![0.0; d * n];
                for t in 0..length {
                    let at = b * length + t;
                    for i in 0..d {
                        let (u, dt) = (x[0][at * d + i], x[1][at * d + i]);
                        let mut y = x[5][i] * u;
                        for j in 0..n {
                            let cell = &mut s[i * n + j];
                            *cell = (dt * x[2][i * n + j]).exp() * *cell + dt * u * x[3][at * n + j];
                            y += *cell * x[4][at * n + j];
                        }
                        ys.push(y);
                    }
                }
                states.extend(s);
            }
            (ys, states)
        }
        "linear" => {
            let (mut ys, mut states) = (Vec::new(), Vec::new());
            for b in 0..batch {
                let mut h = vec![0.0; 7];
                for t in 0..length {
                    for (i, h) in h.iter_mut().enumerate() {
                        let at = (b * length + t) * 7 + i;
                        *h = x[1][at] * *h + x[0][at];
                        ys.push(*h);
                    }
                }
                states.extend(h);
            }
            (ys, states)
        }
        _ => memory_loop(name, case, &x, batch, length),
    }
}

/// The three whose state is a matrix a head.
fn memory_loop(name: &str, case: &Case, x: &[Vec<f64>], batch: usize, length: usize) -> (Vec<f64>, Vec<f64>) {
    let (heads, dk, dv, keys) = match name {
        "wkv7" => (2, 4, 4, 2),
        "gla" => (3, 4, 5, 3),
        _ => (4, 5, 3, 2),
    };
    let mut ys = vec![0.0; batch * length * heads * dv];
    let mut states = Vec::new();
    for b in 0..batch {
        for h in 0..heads {
            let mut s = vec![vec![0.0; dk]; dv];
            for t in 0..length {
                let head = |h: usize, of: usize, d: usize, i: usize| {
                    let at = if name == "gla" { (b * of + h) * length + t } else { (b * length + t) * of + h };
                    at * d + i
                };
                let key = h / (heads / keys);
                let k: Vec<f64> =
                    (0..dk).map(|j| x[if name == "wkv7" { 2 } else { 1 }][head(key, keys, dk, j)]).collect();
                let q: Vec<f64> = (0..dk).map(|j| x[0][head(key, keys, dk, j)]).collect();
                for (i, row) in s.iter_mut().enumerate() {
                    let v = x[if name == "wkv7" { 3 } else { 2 }][head(h, heads, dv, i)];
                    match name {
                        "wkv7" => {
                            let found: f64 = (0..dk).map(|j| row[j] * x[4][head(h, heads, dk, j)]).sum();
                            for j in 0..dk {
                                let fade = x[1][head(h, heads, dk, j)].exp();
                                row[j] = row[j] * fade + found * x[5][head(h, heads, dk, j)] + v * k[j];
                            }
                        }
                        "gla" => {
                            let Recurrence::Gla { decay, .. } = &case.kind else { unreachable!() };
                            (0..dk).for_each(|j| row[j] = row[j] * decay[h].exp() + v * k[j]);
                        }
                        _ => {
                            for (j, cell) in row.iter_mut().enumerate() {
                                let at = if name == "kda" { head(h, heads, dk, j) } else { head(h, heads, 1, 0) };
                                *cell *= x[3][at].exp();
                            }
                            let found: f64 = (0..dk).map(|j| row[j] * k[j]).sum();
                            let delta = x[4][head(h, heads, 1, 0)] * (v - found);
                            (0..dk).for_each(|j| row[j] += delta * k[j]);
                        }
                    }
                    let y: f64 = (0..dk).map(|j| row[j] * q[j]).sum();
                    ys[head(h, heads, dv, i)] = if name == "gla" { 0.5 * y } else { y };
                }
            }
            states.extend(s.into_iter().flatten());
        }
    }
    (ys, states)
}

/// Largest difference over largest value.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(most > 1e-3 && a.iter().all(|v| v.is_finite()), "nothing to compare");
    a.iter().zip(b).fold(0.0f64, |m, (x, y)| m.max((x - y).abs())) / most
}

#[test]
fn each_is_its_loop_over_time() {
    for name in NAMES {
        // One position, a chunk of each kind, one more, and several chunks with a rest.
        for length in [1, 2, 15, 16, 17, 32, 33, 64, 65, 150] {
            let case = case(name, 2, length, length as u64);
            let (y, state) = case.run(None, &[length, length]);
            let (want, last) = loop_over_time(name, &case);
            assert!(apart(&doubles(&y), &want) < 2e-6, "{name}, {length}: {}", apart(&doubles(&y), &want));
            assert!(apart(&doubles(&state), &last) < 2e-6, "{name}, {length}: {}", apart(&doubles(&state), &last));
        }
    }
}

#[test]
fn equal_keys_stay_exact() {
    // The same key over and over: powers of the system's matrix would reach 1e18.
    let mut c = case("delta", 1, 64, 3);
    let one = part(&c.inputs[1], 1, 0, 1).unwrap();
    c.inputs[1] = t::broadcast_to(&one, &[1, 64, 2, 5]).unwrap();
    c.inputs[4] = t::full(&[1, 64, 4], 1.0, Dtype::Float32).unwrap();
    c.inputs[3] = t::full(&[1, 64, 4], 0.0, Dtype::Float32).unwrap();
    let (y, state) = c.run(None, &[64]);
    let (want, last) = loop_over_time("delta", &c);
    assert!(apart(&doubles(&y), &want) < 2e-6 && apart(&doubles(&state), &last) < 2e-6);
}

#[test]
fn a_padded_row_is_its_solo_run_and_leaves_the_state_of_its_own_end() {
    for name in NAMES {
        let case = case(name, 3, 70, 9);
        let lengths = [70, 33, 1];
        let (y, state) = case.run(None, &lengths);
        for (row, length) in lengths.into_iter().enumerate() {
            let (solo, solo_state) = case.row(row).piece(0, length).run(None, &[length]);
            let own = part(&part(&y, 0, row, row + 1).unwrap(), case.out_time, 0, length).unwrap();
            assert!(apart(&doubles(&own), &doubles(&solo)) < 2e-6, "{name}");
            let own = part(&state, 0, row, row + 1).unwrap();
            assert!(apart(&doubles(&own), &doubles(&solo_state)) < 2e-6, "{name}");
        }
    }
}

#[test]
fn half_precision_comes_back_as_it_came_and_states_stay_float32() {
    for name in NAMES {
        let mut case = case(name, 1, 40, 5);
        for x in &mut case.inputs {
            *x = t::cast(x, Dtype::Bfloat16).unwrap();
        }
        let (y, state) = case.run(None, &[40]);
        assert_eq!((y.dtype(), state.dtype()), (Dtype::Bfloat16, Dtype::Float32), "{name}");
        let (want, last) = loop_over_time(name, &case);
        // Only the result is rounded: the state is as exact as from float32 inputs.
        assert!(apart(&doubles(&y), &want) < 4e-3, "{name}");
        assert!(apart(&doubles(&state), &last) < 2e-6, "{name}");
    }
}

#[test]
fn the_graph_grows_with_chunks_and_not_with_positions() {
    for name in NAMES {
        let case = case(name, 1, 512, 1);
        let (y, state) = case.run(None, &[512]);
        let nodes = t::graph_size([&y, &state]).unwrap();
        assert!(nodes < 512 * 8, "{name}: {nodes} nodes for 512 positions");
    }
}

#[test]
fn a_convolution_is_its_sum_of_taps() {
    for taps in [1, 2, 4, 7] {
        let (batch, length, channels) = (2, 9, 3);
        let mut n = Numbers(taps as u64);
        let x = n.array(&[batch, length, channels], |v| v);
        let w = n.array(&[channels, taps, 1], |v| v);
        let bias = n.array(&[channels], |v| v);
        let (y, tail) = conv::causal(&x, &w, Some(&bias), None, &Rows::new(&[9, 9], 9)).unwrap();
        let (xs, ws, bs) = (doubles(&x), doubles(&w), doubles(&bias));
        let mut want = Vec::new();
        for b in 0..batch {
            for t in 0..length {
                for c in 0..channels {
                    let terms = (0..taps).filter(|k| t + k + 1 >= taps);
                    let at = |k: usize| xs[(b * length + t + k + 1 - taps) * channels + c];
                    want.push(bs[c] + terms.map(|k| at(k) * ws[c * taps + k]).sum::<f64>());
                }
            }
        }
        assert!(apart(&doubles(&y), &want) < 1e-6);
        assert_eq!(tail.map(|t| t.dims()), (taps > 1).then(|| vec![batch, taps - 1, channels]));
    }
}

#[test]
fn a_convolution_of_other_channels_or_layout_is_refused() {
    let x = Numbers(1).array(&[1, 4, 3], |v| v);
    for (shape, message) in [([2, 4, 1], "2 channels got 3"), ([3, 1, 4], "needs a weight [channels, taps, 1]")] {
        let w = Numbers(2).array(&shape, |v| v);
        let error = conv::causal(&x, &w, None, None, &Rows::new(&[4], 4)).unwrap_err();
        assert!(error.message().contains(message), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// What one call computes, two calls compute: the second from the state that the first left.
    #[test]
    fn two_pieces_are_one_run(which in 0..NAMES.len(), cut in 1usize..80, rest in 1usize..80, seed in 0u64..1000) {
        let (name, length) = (NAMES[which], cut + rest);
        let case = case(name, 2, length, seed);
        let (whole, end) = case.run(None, &[length; 2]);
        let (first, state) = case.piece(0, cut).run(None, &[cut; 2]);
        let (second, last) = case.piece(cut, length).run(Some(&state), &[rest; 2]);
        let both = t::concatenate([&first, &second], case.out_time as i32).unwrap();
        prop_assert!(apart(&doubles(&both), &doubles(&whole)) < 2e-6, "{}", name);
        prop_assert!(apart(&doubles(&last), &doubles(&end)) < 2e-6, "{}", name);
    }

    /// The same for convolutions and shifts, with rows of unequal length in the first piece.
    #[test]
    fn taps_reach_back_into_the_piece_before(taps in 1usize..6, cut in 1usize..9, rest in 1usize..9, short in 1usize..9) {
        let short = short.min(cut);
        let mut n = Numbers((taps * 1000 + cut * 100 + rest * 10 + short) as u64);
        let (a, b) = (n.array(&[2, cut, 3], |v| v), n.array(&[2, rest, 3], |v| v));
        let w = n.array(&[3, taps, 1], |v| v);
        let pieces = |x: &Array, past: Option<&Array>, lengths: &[usize]| {
            let rows = Rows::new(lengths, x.dim(1));
            let (y, tail) = conv::causal(x, &w, None, past, &rows).unwrap();
            (y, tail)
        };
        let lengths = [cut, short];
        let (_, tail) = pieces(&a, None, &lengths);
        let (second, _) = pieces(&b, tail.as_ref(), &[rest; 2]);
        let (_, before) = conv::shift(&a, None, &Rows::new(&lengths, cut)).unwrap();
        let (shifted, _) = conv::shift(&b, Some(&before), &Rows::new(&[rest; 2], rest)).unwrap();
        for (row, own) in lengths.into_iter().enumerate() {
            let solo = |x: &Array, to: usize| part(&part(x, 0, row, row + 1).unwrap(), 1, 0, to).unwrap();
            let whole = t::concatenate([&solo(&a, own), &solo(&b, rest)], 1).unwrap();
            let n = own + rest;
            let (y, _) = pieces(&whole, None, &[n]);
            let want = part(&y, 1, own, n).unwrap();
            prop_assert!(apart(&doubles(&solo(&second, rest)), &doubles(&want)) < 1e-6);
            let (y, _) = conv::shift(&whole, None, &Rows::new(&[n], n)).unwrap();
            prop_assert_eq!(doubles(&solo(&shifted, rest)), doubles(&part(&y, 1, own, n).unwrap()));
        }
    }
}
