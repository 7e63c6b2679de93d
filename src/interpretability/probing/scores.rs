//! How well a probe does, and what fitting and judging share.

use std::fmt;

use serde::Serialize;

use super::logistic::softplus;
use super::probe::{Kind, Probe};
use crate::error::Result;
use crate::utils::linear::Matrix;

/// How well a probe does on some rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// How many rows.
    pub rows: usize,
    /// The share of rows whose class it says; of labels 0 and 1 only.
    pub accuracy: Option<f64>,
    /// The area under the ROC curve; of labels 0 and 1 only, both present.
    pub auc: Option<f64>,
    /// One less the share of the labels' variance that is left (1: all explained; below 0: worse than the mean); of linear
    /// probes only.
    pub r2: Option<f64>,
    /// Mean squared error of a linear probe, in the labels' units squared; else mean log loss, in nats.
    pub loss: f64,
}

impl Scores {
    /// Of a probe on rows with labels.
    pub fn of(probe: &Probe, x: &Matrix, labels: &[f64]) -> Result<Self> {
        let scores = probe.scores(x)?;
        let n = labels.len() as f64;
        let linear = probe.kind == Kind::Linear;
        let threshold = if linear { 0.5 } else { 0.0 };
        let second: Vec<bool> = labels.iter().map(|l| *l > 0.5).collect();
        let classes = are_classes(labels);
        let right = scores.iter().zip(&second).filter(|(s, c)| (**s > threshold) == **c).count();
        let squares = |middle: &dyn Fn(usize) -> f64| -> f64 {
            labels.iter().enumerate().map(|(i, l)| (l - middle(i)).powi(2)).sum()
        };
        let mean = labels.iter().sum::<f64>() / n;
        let (left, all) = (squares(&|i| scores[i]), squares(&|_| mean));
        let surprise = |(s, c): (&f64, &bool)| softplus(if *c { -s } else { *s });
        Ok(Self {
            rows: labels.len(),
            accuracy: classes.then(|| right as f64 / n),
            auc: Some(auc(&scores, &second)).filter(|a| classes && a.is_finite()),
            r2: (linear && all > 0.0).then(|| 1.0 - left / all),
            loss: if linear { left / n } else { scores.iter().zip(&second).map(surprise).sum::<f64>() / n },
        })
    }

    /// The one number that tells most: accuracy of classes, else the share of the variance explained.
    pub fn headline(&self) -> f64 {
        self.accuracy.or(self.r2).unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [("accuracy", self.accuracy), ("AUC", self.auc), ("R²", self.r2)] {
            if let Some(value) = value {
                write!(f, "{name} {value:.3}, ")?;
            }
        }
        write!(f, "loss {:.3} on {} rows", self.loss, self.rows)
    }
}

/// Whether labels are classes: 0 and 1 only.
pub(super) fn are_classes(labels: &[f64]) -> bool {
    labels.iter().all(|l| *l == 0.0 || *l == 1.0)
}

/// The area under the ROC curve: the chance that a row of the second class scores higher than one of the first, a draw
/// counting half. Not a number where either class is empty.
pub fn auc(scores: &[f64], second: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut ranks, mut i) = (0.0, 0);
    while i < order.len() {
        let draws = order[i..].iter().take_while(|k| scores[**k] == scores[order[i]]).count().max(1);
        // Each of a draw has the mean of the places that they take, counted from 1.
        let rank = i as f64 + (draws as f64 + 1.0) / 2.0;
        ranks += rank * order[i..i + draws].iter().filter(|k| second[**k]).count() as f64;
        i += draws;
    }
    let high = second.iter().filter(|s| **s).count() as f64;
    let low = second.len() as f64 - high;
    (ranks - high * (high + 1.0) / 2.0) / (high * low)
}

/// Rows about their mean with every column at deviation 1, and the deviations; a column that never changes keeps 1.
pub fn standardised(x: &Matrix) -> (Matrix, Vec<f64>) {
    let deviation: Vec<f64> = x.deviation().iter().map(|d| if *d > 0.0 { *d } else { 1.0 }).collect();
    (x.less(&x.mean()).over(&deviation), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        let second = [false, true, false, true, true];
        let scores = [0.1, 0.4, 0.4, 0.35, 0.8];
        // Pairs (first, second): 0.1 is below all three; 0.4 draws with 0.4, is above 0.35 and below 0.8.
        assert!((auc(&scores, &second) - (3.0 + 0.5 + 0.0 + 1.0) / 6.0).abs() < 1e-12);
        assert!(auc(&scores, &[false; 5]).is_nan());
    }
}
