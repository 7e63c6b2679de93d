//! Which rows a probe is fitted on and which it is judged by, from a seed; classes keep their shares.

use super::scores::are_classes;
use crate::error::{Result, bail};
use crate::utils::Random;

/// Rows to fit on, rows to judge by, each in ascending order.
pub type Parts = (Vec<usize>, Vec<usize>);

/// Rows by class, shuffled; all rows in one list where labels are no classes.
fn strata(labels: &[f64], seed: u64) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..labels.len()).collect();
    let mut strata = match are_classes(labels) {
        true => [0.0, 1.0].iter().map(|c| all.iter().copied().filter(|i| labels[*i] == *c).collect()).collect(),
        false => vec![all],
    };
    let mut random = Random::new(seed);
    strata.iter_mut().for_each(|s: &mut Vec<usize>| random.shuffle(s));
    strata
}

/// The rows less a share of each class.
pub fn split(labels: &[f64], share: f64, seed: u64) -> Result<Parts> {
    if !(0.0..1.0).contains(&share) {
        bail!(InvalidArgument, "a validation share of {share}: it must be 0 or more and below 1");
    }
    let (mut fit, mut judge) = (Vec::new(), Vec::new());
    for stratum in strata(labels, seed) {
        let held = (stratum.len() as f64 * share).round() as usize;
        // A share that is asked for is not rounded away, nor is what is left to fit on.
        let held = if share > 0.0 { held.clamp(1, stratum.len().saturating_sub(1).max(1)) } else { 0 };
        if stratum.len() < 2 && share > 0.0 {
            bail!(
                InvalidArgument,
                "a class of {} rows cannot be split: give more rows, or validation 0",
                stratum.len()
            );
        }
        judge.extend(&stratum[..held]);
        fit.extend(&stratum[held..]);
    }
    fit.sort_unstable();
    judge.sort_unstable();
    Ok((fit, judge))
}

/// `n` folds: every row is judged by once, and fitted on in all others.
pub fn folds(labels: &[f64], n: usize, seed: u64) -> Result<Vec<Parts>> {
    let strata = strata(labels, seed);
    let least = strata.iter().map(Vec::len).min().unwrap_or(0);
    if n < 2 || least < n {
        bail!(InvalidArgument, "{n} folds of classes of at least {least} rows: from 2 folds up to as many as rows");
    }
    let part = |fold: usize| {
        let (mut fit, mut judge) = (Vec::new(), Vec::new());
        for stratum in &strata {
            stratum.iter().enumerate().for_each(|(k, i)| if k % n == fold { judge.push(*i) } else { fit.push(*i) });
        }
        fit.sort_unstable();
        judge.sort_unstable();
        (fit, judge)
    };
    Ok((0..n).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_apart_together_all_and_keep_shares() {
        let labels: Vec<f64> = (0..40).map(|i| f64::from(i % 4 == 0)).collect();
        let (fit, judge) = split(&labels, 0.2, 7).unwrap();
        assert_eq!((fit.len(), judge.len()), (32, 8));
        assert_eq!(judge.iter().filter(|i| labels[**i] == 1.0).count(), 2);
        assert_eq!(split(&labels, 0.2, 7).unwrap(), (fit.clone(), judge.clone()));
        assert_ne!(split(&labels, 0.2, 8).unwrap().1, judge);
        let mut all = [fit, judge].concat();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
        let mut judged: Vec<usize> = folds(&labels, 5, 1).unwrap().into_iter().flat_map(|f| f.1).collect();
        judged.sort_unstable();
        assert_eq!(judged, (0..40).collect::<Vec<_>>());
        assert!(folds(&labels, 11, 1).is_err() && folds(&labels, 1, 1).is_err() && split(&labels, 1.0, 0).is_err());
        assert_eq!(split(&labels, 0.0, 0).unwrap().1, [0; 0]);
    }
}
