//! One probe studied: fitted on a part, judged by the rest, across folds, and against a control task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::probe::{Fit, Kind, Probe};
use super::scores::{Scores, are_classes};
use super::split::{Parts, folds, split};
use crate::error::{Result, bail};
use crate::utils::Random;
use crate::utils::linear::Matrix;

/// How probes are fitted and judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Study {
    /// Which way the line is laid.
    pub kind: Kind,
    /// Penalty on the squared weights: scikit-learn's `alpha` of a ridge, its `1 / C` of a logistic regression.
    pub l2: f64,
    /// Whether features are brought to mean 0 and deviation 1 (of the rows fitted on) first.
    pub standardise: bool,
    /// Mass-mean: whether to multiply by the inverse covariance within the classes.
    pub covariance: bool,
    /// Share of the rows that the probe is judged by and not fitted on; 0 is none.
    pub validation: f64,
    /// Folds of a cross-validation besides; 0 is none.
    pub folds: usize,
    /// How many random labelings of a control task; 0 is none.
    pub control: usize,
    /// What rows are drawn into parts by, and control labels.
    pub seed: u64,
    /// Steps of a logistic fit at most.
    pub max_iterations: usize,
}

impl Default for Study {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            l2: 1.0,
            standardise: true,
            covariance: false,
            validation: 0.2,
            folds: 0,
            control: 0,
            seed: 0,
            max_iterations: 2000,
        }
    }
}

impl Study {
    pub(super) fn fit(&self) -> Fit {
        Fit {
            kind: self.kind,
            l2: self.l2,
            standardise: self.standardise,
            covariance: self.covariance,
            max_iterations: self.max_iterations,
        }
    }
}

/// A control task (Hewitt and Liang 2019, "Designing and interpreting probes with control tasks"): every type of row gets
/// a label drawn at random from the task's own, so that a probe can only know it by heart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Controlled {
    /// Mean over the labelings of the validation accuracy there (of labels that are no classes, R²).
    pub score: f64,
    /// The probe's own less that: what the states hold of the task, not the probe of its types.
    pub selectivity: f64,
    /// The share of validation rows whose type stands among the rows fitted on. Of others a control label cannot be known,
    /// so the control is only as hard as this is near 1.
    pub known: f64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Studied {
    /// Fitted on the rows that are not for validation.
    pub probe: Probe,
    /// On the rows it was fitted on.
    pub train: Scores,
    /// On the rows it was not; none where there are none.
    pub validation: Option<Scores>,
    /// Of each fold, of a probe fitted on the others.
    pub folds: Vec<Scores>,
    /// Against the control task.
    pub control: Option<Controlled>,
}

impl Studied {
    /// The number that tells most: of validation, else of the folds' mean, else of the rows fitted on.
    pub fn headline(&self) -> f64 {
        match (&self.validation, self.folds.is_empty()) {
            (Some(scores), _) => scores.headline(),
            (None, false) => self.folds.iter().map(Scores::headline).sum::<f64>() / self.folds.len() as f64,
            (None, true) => self.train.headline(),
        }
    }
}

impl fmt::Display for Studied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} probe, width {}", self.probe.kind.name(), self.probe.weights.len())?;
        if !self.probe.converged {
            writeln!(f, "  the fit ran out of steps: ask for more regularisation (l2) or steps (max_iterations)")?;
        }
        writeln!(f, "  train       {}", self.train)?;
        if let Some(scores) = &self.validation {
            writeln!(f, "  validation  {scores}")?;
        }
        for (i, scores) in self.folds.iter().enumerate() {
            writeln!(f, "  fold {i:<6} {scores}")?;
        }
        if let Some(c) = &self.control {
            writeln!(f, "  control     {:.3}, selectivity {:.3}, types known {:.3}", c.score, c.selectivity, c.known)?;
        }
        Ok(())
    }
}

/// Studies a probe of rows with a label each. `types` names each row's type for the control task, such as the token
/// it stands for. Errors: as many labels as rows; numbers that are not finite; one class only; labels that are no classes
/// for a probe that needs some.
pub fn probe(x: &Matrix, labels: &[f64], types: Option<&[u64]>, study: &Study) -> Result<Studied> {
    check(x, labels, types, study)?;
    let parts = split(labels, study.validation, study.seed)?;
    let (probe, train, validation) = judged(x, labels, &parts, study)?;
    let mut across = Vec::new();
    if study.folds > 0 {
        for parts in folds(labels, study.folds, study.seed)? {
            let (_, train, validation) = judged(x, labels, &parts, study)?;
            across.push(validation.unwrap_or(train));
        }
    }
    let mut done = Studied { probe, train, validation, folds: across, control: None };
    if study.control > 0 {
        let Some(types) = types else {
            bail!(
                InvalidArgument,
                "a control task needs types: a number a row, the same for rows of one kind (the token's id)"
            )
        };
        done.control = Some(control(x, labels, types, &parts, study, done.headline())?);
    }
    Ok(done)
}

fn check(x: &Matrix, labels: &[f64], types: Option<&[u64]>, study: &Study) -> Result<()> {
    let n = x.rows();
    if labels.len() != n {
        bail!(InvalidArgument, "{} labels for {n} rows: give one a row", labels.len());
    }
    if types.is_some_and(|t| t.len() != n) {
        bail!(InvalidArgument, "{} types for {n} rows: give one a row", types.map_or(0, <[u64]>::len));
    }
    if let Some(i) = labels.iter().position(|l| !l.is_finite()) {
        bail!(InvalidArgument, "the label of row {i} is {}: it must be a finite number", labels[i]);
    }
    if let Some(i) = x.iter().position(|row| row.iter().any(|v| !v.is_finite())) {
        bail!(InvalidArgument, "row {i} holds infinities or NaN");
    }
    if study.kind != Kind::Linear && !are_classes(labels) {
        let other = labels.iter().find(|l| **l != 0.0 && **l != 1.0).copied().unwrap_or_default();
        bail!(
            InvalidArgument,
            "a {} probe tells classes apart, labelled 0 and 1; a label is {other}: use a linear probe for numbers",
            study.kind.name()
        );
    }
    if labels.windows(2).all(|w| w[0] == w[1]) {
        let only = labels.first().copied().unwrap_or_default();
        bail!(InvalidArgument, "all {n} labels are {only}: a probe needs at least two different ones");
    }
    Ok(())
}

fn judged(x: &Matrix, labels: &[f64], parts: &Parts, study: &Study) -> Result<(Probe, Scores, Option<Scores>)> {
    let of = |rows: &[usize]| (x.select(rows), rows.iter().map(|i| labels[*i]).collect::<Vec<_>>());
    let (fitted_on, own) = of(&parts.0);
    let probe = Probe::fit(&fitted_on, &own, &study.fit())?;
    let train = Scores::of(&probe, &fitted_on, &own)?;
    let validation = match parts.1.is_empty() {
        true => None,
        false => {
            let (rest, labels) = of(&parts.1);
            Some(Scores::of(&probe, &rest, &labels)?)
        }
    };
    Ok((probe, train, validation))
}

fn control(x: &Matrix, labels: &[f64], types: &[u64], parts: &Parts, study: &Study, own: f64) -> Result<Controlled> {
    let all: BTreeSet<u64> = types.iter().copied().collect();
    let seen: BTreeSet<u64> = parts.0.iter().map(|i| types[*i]).collect();
    if seen.len() < 2 {
        bail!(InvalidArgument, "a control task needs rows of at least two types to fit on: all are of one");
    }
    let mut scores = Vec::new();
    for repeat in 0..study.control {
        let mut random = Random::stream(study.seed, repeat as u64 + 1);
        let drawn = loop {
            let drawn: BTreeMap<u64, f64> = all.iter().map(|t| (*t, labels[random.below(labels.len())])).collect();
            let given: Vec<f64> = types.iter().map(|t| drawn[t]).collect();
            // A draw that gives every row one label leaves nothing to fit; with two types there are others.
            if parts.0.iter().any(|i| given[*i] != given[parts.0[0]]) {
                break given;
            }
        };
        let (_, train, validation) = judged(x, &drawn, parts, study)?;
        scores.push(validation.unwrap_or(train).headline());
    }
    let judged_by = if parts.1.is_empty() { &parts.0 } else { &parts.1 };
    let known = judged_by.iter().filter(|i| seen.contains(&types[**i])).count() as f64 / judged_by.len() as f64;
    let score = scores.iter().sum::<f64>() / scores.len() as f64;
    Ok(Controlled { score, selectivity: own - score, known })
}
