//! Probes over layers and positions: the texts run once, whatever the number of probes.

use std::fmt;

use serde::Serialize;

use super::files::Probes;
use super::study::{Studied, Study, probe};
use crate::core::model::{Model, Prompts};
use crate::core::trace::TraceOptions;
use crate::error::{Result, bail};
use crate::utils::linear::Matrix;
use crate::utils::{Axis, Grid, Position, Progress, activations, tell};

/// Where probes are laid, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// Layers, negative from the last; none: all.
    pub layers: Option<Vec<i64>>,
    /// The value within each layer.
    pub site: String,
    /// Positions of every text.
    pub positions: Vec<Position>,
    /// Texts that run together.
    pub batch_size: usize,
    /// How each is fitted and judged.
    pub study: Study,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            layers: None,
            site: "output".to_owned(),
            positions: vec![Position::Last],
            batch_size: 16,
            study: Study::default(),
        }
    }
}

/// Where one of them is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Name of the site.
    pub site: String,
    /// Position of every text.
    pub position: Position,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.site, self.position)
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Swept {
    /// Validation accuracy (of labels that are no classes, R²) by layer and position.
    pub scores: Grid,
    /// The same of the control task, and the difference, where one was asked for.
    pub selectivity: Option<Grid>,
    /// Where each probe is: layer by layer, the positions within.
    pub targets: Vec<Target>,
    /// What came of each.
    pub studied: Vec<Studied>,
}

impl Swept {
    /// The best of them by its headline number.
    pub fn best(&self) -> (&Target, &Studied) {
        let all = self.targets.iter().zip(&self.studied);
        // The first of equals: the earliest layer that knows it.
        let best = all.reduce(|a, b| if b.1.headline() > a.1.headline() { b } else { a });
        best.expect("a sweep has at least one probe")
    }

    /// The probes, to be kept.
    pub fn probes(&self, model: &Model) -> Probes {
        let probes = self.targets.iter().cloned().zip(self.studied.iter().map(|s| s.probe.clone()));
        Probes { model: model.short_name().to_owned(), probes: probes.collect() }
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.studied[0].train.accuracy.is_some() { "accuracy" } else { "R²" };
        writeln!(f, "{what}\n{}", self.scores)?;
        if let Some(selectivity) = &self.selectivity {
            writeln!(f, "selectivity\n{selectivity}")?;
        }
        let (target, best) = self.best();
        write!(f, "best: {target}\n{best}")
    }
}

/// Probes of a label a text at sites of layers and positions. The control task's types are each text's token at the
/// position (of a mean, the text), unless given. `options` is what every run is under.
///
/// Memory: a row of the site's width for each text, layer and position, in float32, and one batch.
pub fn probe_sweep(
    model: &Model,
    texts: impl Into<Prompts>,
    labels: &[f64],
    types: Option<&[u64]>,
    sweep: &Sweep,
    options: &TraceOptions,
    progress: &mut Progress<'_>,
) -> Result<Swept> {
    let rows = model.batch(texts)?.rows().to_vec();
    if labels.len() != rows.len() {
        bail!(InvalidArgument, "{} labels for {} texts: give one a text", labels.len(), rows.len());
    }
    if rows.iter().any(Vec::is_empty) {
        bail!(InvalidArgument, "texts or token ids are probed, not arrays: give arrays of states to probe those");
    }
    if sweep.positions.is_empty() {
        bail!(InvalidArgument, "no positions: name at least one");
    }
    let layers = match &sweep.layers {
        None => (0..model.num_layers()).collect(),
        Some(chosen) => chosen.iter().map(|i| model.layer(*i)).collect::<Result<Vec<_>>>()?,
    };
    let sites: Vec<String> = layers.iter().map(|i| format!("layers.{i}.{}", sweep.site)).collect();
    for site in &sites {
        model.sites().resolve(site)?;
    }
    let picks = sweep.positions.iter().map(|p| p.pick(&rows)).collect::<Result<Vec<_>>>()?;
    let mut found = activations(model, &rows, &sites, &picks, options, sweep.batch_size, progress)?;
    let (mut targets, mut studied) = (Vec::new(), Vec::new());
    for (s, site) in sites.iter().enumerate() {
        for (p, position) in sweep.positions.iter().enumerate() {
            // Given up as it is used: all float64 copies at once would be twice the memory again.
            let x = Matrix::of(found.widths[s], &std::mem::take(&mut found.values[s][p]))?;
            let own: Vec<u64> = match (&picks[p], types) {
                (_, Some(given)) => given.to_vec(),
                (crate::utils::Pick::At(at), None) => rows.iter().zip(at).map(|(row, i)| u64::from(row[*i])).collect(),
                (crate::utils::Pick::Mean, None) => (0..rows.len() as u64).collect(),
            };
            let target = Target { site: site.clone(), position: *position };
            let done = probe(&x, labels, Some(&own), &sweep.study).map_err(|e| e.context(&target))?;
            targets.push(target);
            studied.push(done);
            tell(progress, rows.len() as u64, rows.len() as u64)?;
        }
    }
    let axes = || {
        vec![
            Axis::new("layer", layers.iter().map(ToString::to_string)),
            Axis::new("position", sweep.positions.iter().map(ToString::to_string)),
        ]
    };
    let scores = Grid::new(axes(), studied.iter().map(|s| s.headline() as f32).collect())?;
    let control: Option<Vec<f32>> = studied.iter().map(|s| Some(s.control.as_ref()?.selectivity as f32)).collect();
    let selectivity = control.map(|values| Grid::new(axes(), values)).transpose()?;
    Ok(Swept { scores, selectivity, targets, studied })
}
