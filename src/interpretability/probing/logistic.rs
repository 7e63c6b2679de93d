//! Logistic regression with an L2 penalty, in float64 and without chance: L-BFGS (Liu and Nocedal 1989) on the whole set.

use crate::error::{Result, bail};
use crate::utils::linear::{Matrix, add_scaled, dot};

/// What was fitted: the probability of the second class is `1 / (1 + e^-(x·weights + bias))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// One a feature.
    pub weights: Vec<f64>,
    /// Of the second class.
    pub bias: f64,
    /// Steps taken.
    pub iterations: usize,
    /// Whether the gradient went to zero in them.
    pub converged: bool,
}

/// How many steps the method looks back.
const MEMORY: usize = 20;

/// Minimises `Σ loss + l2/2 |weights|²`, the bias free of the penalty, as scikit-learn does with `C = 1 / l2`.
pub fn logistic(x: &Matrix, second: &[bool], l2: f64, most: usize) -> Result<Solution> {
    if !l2.is_finite() || l2 < 0.0 {
        bail!(InvalidArgument, "l2 of {l2}: it must be 0 or more");
    }
    let d = x.width();
    let signs: Vec<f64> = second.iter().map(|s| if *s { 1.0 } else { -1.0 }).collect();
    let evaluate = |at: &[f64]| {
        let (weights, bias) = (&at[..d], at[d]);
        let margins: Vec<f64> = x.times(weights).iter().zip(&signs).map(|(z, s)| s * (z + bias)).collect();
        let value: f64 = margins.iter().map(|m| softplus(-m)).sum::<f64>() + 0.5 * l2 * dot(weights, weights);
        let pulls: Vec<f64> = margins.iter().zip(&signs).map(|(m, s)| -s * sigmoid(-m)).collect();
        let mut gradient = x.weighted_sum(&pulls);
        add_scaled(&mut gradient, weights, l2);
        gradient.push(pulls.iter().sum());
        (value, gradient)
    };
    let mut at = vec![0.0; d + 1];
    let (mut value, mut gradient) = evaluate(&at);
    let scale = 1.0 + largest(&gradient);
    let mut memory: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
    let mut iterations = 0;
    while iterations < most && largest(&gradient) > 1e-10 * scale {
        let mut direction = descent(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            memory.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let first = if memory.is_empty() { 1.0 / largest(&gradient).max(1.0) } else { 1.0 };
        let Some((next, lower, slopes)) = step(&at, &direction, first, value, slope, &evaluate) else { break };
        let moved: Vec<f64> = next.iter().zip(&at).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = slopes.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&moved, &turned);
        if curvature > 1e-14 * dot(&turned, &turned).sqrt() * dot(&moved, &moved).sqrt() {
            if memory.len() == MEMORY {
                memory.remove(0);
            }
            memory.push((moved, turned, 1.0 / curvature));
        }
        let gained = value - lower;
        (at, value, gradient) = (next, lower, slopes);
        iterations += 1;
        // Below that the value is rounding, and a line search would go on halving it for ever.
        if gained <= 1e-15 * value.abs() {
            break;
        }
    }
    // Where rounding ends the line search the gradient is as small as it gets.
    let converged = largest(&gradient) <= 1e-7 * scale;
    let bias = at[d];
    at.truncate(d);
    Ok(Solution { weights: at, bias, iterations, converged })
}

/// The two-loop recursion: the gradient through what the last steps say of the curvature.
fn descent(gradient: &[f64], memory: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (moved, turned, inverse) in memory.iter().rev() {
        let share = inverse * dot(moved, &q);
        add_scaled(&mut q, turned, -share);
        shares.push(share);
    }
    if let Some((_, turned, inverse)) = memory.last() {
        let scale = 1.0 / (inverse * dot(turned, turned));
        q.iter_mut().for_each(|v| *v *= scale);
    }
    for ((moved, turned, inverse), share) in memory.iter().zip(shares.iter().rev()) {
        let back = inverse * dot(turned, &q);
        add_scaled(&mut q, moved, share - back);
    }
    q
}

type Point = (Vec<f64>, f64, Vec<f64>);

/// The value at a point, and the slope there.
type Evaluate<'a> = dyn Fn(&[f64]) -> (f64, Vec<f64>) + 'a;

/// A step that lowers the value enough (Armijo) and leaves the slope less steep (Wolfe), by halving and doubling.
fn step(at: &[f64], direction: &[f64], first: f64, value: f64, slope: f64, evaluate: &Evaluate<'_>) -> Option<Point> {
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut best: Option<Point> = None;
    for _ in 0..30 {
        let mut next = at.to_vec();
        add_scaled(&mut next, direction, length);
        let (new, gradient) = evaluate(&next);
        if new.is_nan() || new > value + 1e-4 * length * slope {
            high = length;
        } else {
            let steep = dot(&gradient, direction) < 0.9 * slope;
            best = Some((next, new, gradient));
            if !steep {
                break;
            }
            low = length;
        }
        length = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * length };
    }
    best
}

/// `log(1 + e^x)` without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

fn largest(v: &[f64]) -> f64 {
    v.iter().fold(0.0, |m, x| m.max(x.abs()))
}
