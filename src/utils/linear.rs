//! Small dense linear algebra in float64 on the host: what directions and probes are fitted with.
//!
//! Not on the backend, whose float32 would leave three digits of a solution that is not well conditioned.

use super::random::Random;
use crate::error::{Result, bail};

/// Rows of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    width: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// Rows of `width` numbers, one after another.
    pub fn new(width: usize, data: Vec<f64>) -> Result<Self> {
        if width == 0 || !data.len().is_multiple_of(width) {
            bail!(Shape, "{} numbers are not rows of {width}", data.len());
        }
        Ok(Self { width, data })
    }

    /// The same from float32.
    pub fn of(width: usize, data: &[f32]) -> Result<Self> {
        Self::new(width, data.iter().map(|v| f64::from(*v)).collect())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.width
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.width..(i + 1) * self.width]
    }

    /// All rows.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks_exact(self.width)
    }

    /// Some of the rows, in that order.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self { width: self.width, data: rows.iter().flat_map(|i| self.row(*i)).copied().collect() }
    }

    /// Each row times a vector.
    pub fn times(&self, v: &[f64]) -> Vec<f64> {
        self.iter().map(|row| dot(row, v)).collect()
    }

    /// The sum of the rows, each times its number.
    pub fn weighted_sum(&self, weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        for (row, w) in self.iter().zip(weights) {
            add_scaled(&mut sum, row, *w);
        }
        sum
    }

    /// The mean row.
    pub fn mean(&self) -> Vec<f64> {
        let share = 1.0 / self.rows().max(1) as f64;
        self.weighted_sum(&vec![share; self.rows()])
    }

    /// Every row less one.
    pub fn less(&self, row: &[f64]) -> Self {
        let data = self.iter().flat_map(|own| own.iter().zip(row).map(|(a, b)| a - b)).collect();
        Self { width: self.width, data }
    }

    /// Every row divided by one, place by place.
    pub fn over(&self, row: &[f64]) -> Self {
        let data = self.iter().flat_map(|own| own.iter().zip(row).map(|(a, b)| a / b)).collect();
        Self { width: self.width, data }
    }

    /// Standard deviation of each column about its mean, of the rows as a whole population.
    pub fn deviation(&self) -> Vec<f64> {
        let mean = self.mean();
        let mut squares = vec![0.0; self.width];
        for row in self.iter() {
            squares.iter_mut().zip(row.iter().zip(&mean)).for_each(|(s, (x, m))| *s += (x - m) * (x - m));
        }
        squares.iter().map(|s| (s / self.rows().max(1) as f64).sqrt()).collect()
    }

    /// Products of the columns (`XᵀX`), or of the rows (`XXᵀ`).
    pub fn products(&self, of_rows: bool) -> Vec<f64> {
        let n = if of_rows { self.rows() } else { self.width };
        let mut out = vec![0.0; n * n];
        if of_rows {
            for i in 0..n {
                for j in 0..=i {
                    let product = dot(self.row(i), self.row(j));
                    (out[i * n + j], out[j * n + i]) = (product, product);
                }
            }
        } else {
            for row in self.iter() {
                for (i, x) in row.iter().enumerate() {
                    add_scaled(&mut out[i * n..(i + 1) * n], row, *x);
                }
            }
        }
        out
    }
}

/// The sum of the products.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Euclidean length.
pub fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// `a += s b`
pub fn add_scaled(a: &mut [f64], b: &[f64], s: f64) {
    a.iter_mut().zip(b).for_each(|(x, y)| *x += s * y);
}

/// Solves `A x = b` for a symmetric, positive definite `A` of `b`'s size (Cholesky). An error when it is not one.
pub fn solve(mut a: Vec<f64>, b: &[f64]) -> Result<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let (above, rest) = a.split_at(i * n);
            let own = &rest[..n];
            let sum = own[j] - if j < i { dot(&own[..j], &above[j * n..j * n + j]) } else { dot(&own[..j], &own[..j]) };
            if i == j && sum.is_nan() | (sum <= 0.0) {
                bail!(InvalidArgument, "the equations have no single solution: ask for more regularisation (l2)");
            }
            a[i * n + j] = if i == j { sum.sqrt() } else { sum / a[j * n + j] };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - dot(&a[i * n..i * n + i], &x[..i])) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let above: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - above) / a[i * n + i];
    }
    Ok(x)
}

/// The direction, of length 1, along which the rows are longest: the first right singular vector. Its sign means nothing.
/// An error when all rows are zero.
///
/// Lanczos's method with full reorthogonalisation, begun again from what it found until that no longer changes.
pub fn leading_direction(rows: &Matrix) -> Result<Vec<f64>> {
    let few = rows.rows() <= rows.width();
    let size = if few { rows.rows() } else { rows.width() };
    let apply = |v: &[f64]| match few {
        true => rows.times(&rows.weighted_sum(v)),
        false => rows.weighted_sum(&rows.times(v)),
    };
    let mut random = Random::new(0);
    let mut start: Vec<f64> = (0..size).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 19) - 1.0).collect();
    for _ in 0..200 {
        let (found, value) = lanczos(&start, &apply, size.min(60));
        let mut rest = apply(&found);
        add_scaled(&mut rest, &found, -value);
        start = found;
        if length(&rest) <= 1e-12 * value {
            break;
        }
    }
    let direction = if few { rows.weighted_sum(&start) } else { start };
    let norm = length(&direction);
    if norm.is_nan() || norm <= 0.0 {
        bail!(InvalidArgument, "no direction: all differences are zero");
    }
    Ok(direction.iter().map(|v| v / norm).collect())
}

/// The leading eigenvector within the space that `steps` applications reach, and its eigenvalue.
fn lanczos(start: &[f64], apply: &dyn Fn(&[f64]) -> Vec<f64>, steps: usize) -> (Vec<f64>, f64) {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut next = start.to_vec();
    let mut small = vec![0.0; steps * steps];
    let mut before = 0.0;
    for k in 0..steps {
        let norm = length(&next);
        // The space is exhausted: what is left is rounding.
        if norm <= 1e-13 * before || norm == 0.0 {
            break;
        }
        next.iter_mut().for_each(|v| *v /= norm);
        if k > 0 {
            (small[k * steps + k - 1], small[(k - 1) * steps + k]) = (norm, norm);
        }
        basis.push(next.clone());
        next = apply(&next);
        before = length(&next).max(before);
        small[k * steps + k] = dot(&basis[k], &next);
        // Twice: once leaves rounding of the size of what was taken away.
        for _ in 0..2 {
            for b in &basis {
                let along = dot(b, &next);
                add_scaled(&mut next, b, -along);
            }
        }
    }
    let n = basis.len();
    let inner: Vec<f64> = (0..n * n).map(|i| small[(i / n) * steps + i % n]).collect();
    let (weights, value) = leading_eigenvector(inner, n);
    let mut vector = vec![0.0; start.len()];
    basis.iter().zip(&weights).for_each(|(b, w)| add_scaled(&mut vector, b, *w));
    (vector, value)
}

/// Of a small symmetric matrix, by Jacobi's rotations.
fn leading_eigenvector(mut a: Vec<f64>, n: usize) -> (Vec<f64>, f64) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        let all = dot(&a, &a);
        if off <= 1e-30 * all {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    let best = (0..n).max_by(|i, j| a[i * n + i].total_cmp(&a[j * n + j])).unwrap_or(0);
    ((0..n).map(|i| vectors[i * n + best]).collect(), if n == 0 { 0.0 } else { a[best * n + best] })
}

/// The rotation that takes `a[p][q]` to zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (vectors[k * n + p], vectors[k * n + q]);
        (vectors[k * n + p], vectors[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(n: usize, d: usize, seed: u64) -> Matrix {
        let mut random = Random::new(seed);
        Matrix::new(d, (0..n * d).map(|_| random.below(2001) as f64 / 1000.0 - 1.0).collect()).unwrap()
    }

    #[test]
    fn equations_are_solved() {
        let x = matrix(30, 8, 1);
        let mut a = x.products(false);
        (0..8).for_each(|i| a[i * 8 + i] += 0.1);
        let wanted: Vec<f64> = (0..8).map(|i| i as f64 - 3.0).collect();
        let b: Vec<f64> = (0..8).map(|i| dot(&a[i * 8..(i + 1) * 8], &wanted)).collect();
        let found = solve(a, &b).unwrap();
        assert!(found.iter().zip(&wanted).all(|(f, w)| (f - w).abs() < 1e-12), "{found:?}");
        assert!(solve(vec![1.0, 2.0, 2.0, 1.0], &[1.0, 1.0]).unwrap_err().message().contains("l2"));
    }

    /// A leading direction is one that the rows' products only lengthen, and no other is lengthened more.
    #[test]
    fn the_leading_direction_is_an_eigenvector_that_nothing_beats() {
        for (n, d) in [(5, 40), (200, 20), (150, 150), (1, 7)] {
            let rows = matrix(n, d, (n * d) as u64);
            let found = leading_direction(&rows).unwrap();
            let image = rows.weighted_sum(&rows.times(&found));
            let value = dot(&image, &found);
            let apart = image.iter().zip(&found).map(|(i, f)| (i - value * f).powi(2)).sum::<f64>().sqrt();
            assert!(apart < 1e-8 * value, "{n} x {d}: {apart} of {value}");
            let mut random = Random::new(9);
            for _ in 0..200 {
                let mut other: Vec<f64> = (0..d).map(|_| random.below(2001) as f64 - 1000.0).collect();
                // A few power steps make it a strong rival.
                for _ in 0..20 {
                    other = rows.weighted_sum(&rows.times(&other));
                    let norm = length(&other);
                    other.iter_mut().for_each(|v| *v /= norm);
                }
                assert!(length(&rows.times(&other)).powi(2) <= value * (1.0 + 1e-10));
            }
        }
        assert!(leading_direction(&Matrix::new(3, vec![0.0; 6]).unwrap()).is_err());
    }
}
