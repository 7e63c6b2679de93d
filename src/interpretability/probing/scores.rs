//! What the fitting and the judging of probes share.

use crate::utils::linear::Matrix;

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
