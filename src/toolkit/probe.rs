//! `probe`: probes over layers and positions of texts, or of given states; probes from a file on new texts.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::to_json;
use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::interpretability::probing::{Probes, Scores, Studied, Study, Sweep, Swept, Target, probe, probe_sweep};
use crate::utils::linear::Matrix;
use crate::utils::{Axis, Finding, Grid, Position};
use crate::visualization::{bars, heatmap};

pub(super) const TOOL: Tool = Tool {
    name: "probe",
    about: "what a straight line can read off the states of texts, by layer and position, against a control task",
    arrays: &["activations"],
    metric: false,
    run,
};

const OWN: &[&str] = &["texts", "labels", "types", "layers", "site", "positions", "batch_size", "load", "save"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    texts: Option<Prompts>,
    labels: Option<Vec<Label>>,
    /// What the control task takes for one kind.
    types: Option<Vec<u64>>,
    layers: Option<Vec<i64>>,
    site: Option<String>,
    positions: Option<Vec<Position>>,
    batch_size: Option<usize>,
    /// Probes to ask instead of fitting some.
    load: Option<String>,
    save: Option<String>,
}

/// A class or a number.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a label is 0, 1, true, false, or for a linear probe any number")]
enum Label {
    Class(bool),
    Number(f64),
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (options, study): (Options, Study) = call.read_beside(OWN)?;
    let labels: Option<Vec<f64>> = options.labels.as_ref().map(|all| {
        let number = |l: &Label| match l {
            Label::Class(c) => f64::from(u8::from(*c)),
            Label::Number(n) => *n,
        };
        all.iter().map(number).collect()
    });
    let usual = Sweep::default();
    let batch_size = options.batch_size.unwrap_or(usual.batch_size);
    let trace = call.trace_options();
    if let Some(path) = &options.load {
        let Some(texts) = options.texts else {
            bail!(InvalidArgument, "'probe' needs 'texts' to ask the probes about")
        };
        let probes = Probes::load(path)?;
        let scores = probes.scores(model, texts, batch_size, &trace, &mut call.progress)?;
        return Ok(Box::new(Asked { targets: probes.probes.into_iter().map(|(t, _)| t).collect(), scores }));
    }
    let Some(labels) = labels else { bail!(InvalidArgument, "'probe' needs 'labels': one a text or row") };
    let types = options.types.as_deref();
    if let Some(array) = call.array("activations") {
        if options.texts.is_some() || options.save.is_some() {
            bail!(
                InvalidArgument,
                "'probe' takes 'texts' or the array 'activations'; probes of the latter have no site to save"
            );
        }
        if array.ndim() != 2 || array.dim(1) == 0 {
            bail!(Shape, "'activations' has shape {:?}: it must be [rows, width]", array.shape());
        }
        let x = Matrix::of(array.dim(1), &array.to_vec::<f32>()?)?;
        return Ok(Box::new(One(probe(&x, &labels, types, &study)?)));
    }
    let Some(texts) = options.texts else {
        bail!(InvalidArgument, "'probe' needs 'texts', or the array 'activations'")
    };
    let sweep = Sweep {
        layers: options.layers,
        site: options.site.unwrap_or(usual.site),
        positions: options.positions.unwrap_or(usual.positions),
        batch_size,
        study,
    };
    let swept = probe_sweep(model, texts, &labels, types, &sweep, &trace, &mut call.progress)?;
    if let Some(path) = &options.save {
        swept.probes(model).save(path)?;
    }
    Ok(Box::new(swept))
}

impl Finding for Swept {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        let (best, studied) = self.best();
        let mut all = to_json(self)?;
        all["best"] = json!({ "target": to_json(best)?, "studied": to_json(studied)? });
        Ok(all)
    }

    fn figure(&self) -> String {
        let what = if self.studied[0].train.accuracy.is_some() { "Accuracy" } else { "R²" };
        let remark = "of probes on the rows that they were not fitted on";
        let drawn = |grid: &Grid, title: &str| match grid.axes[1].len() {
            1 => Grid::new(vec![grid.axes[0].clone()], grid.values.clone())
                .map_or_else(|e| e.to_string(), |g| bars(&g, title)),
            _ => heatmap(grid, title, remark),
        };
        let mut figure = drawn(&self.scores, &format!("{what} {remark}, by layer"));
        if let Some(grid) = &self.selectivity {
            figure.push_str(&drawn(grid, "Selectivity: the same less that of a control task"));
        }
        figure
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        self.targets.iter().zip(&self.studied).map(|(target, s)| direction(&target.to_string(), s)).collect()
    }
}

fn direction(name: &str, studied: &Studied) -> Result<(String, Array)> {
    Ok((name.to_owned(), Array::from_slice(&studied.probe.weights, &[studied.probe.weights.len()])?))
}

/// Of given states.
struct One(Studied);

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Finding for One {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        to_json(&self.0)
    }

    fn figure(&self) -> String {
        let mut all = vec![("train".to_owned(), self.0.train.headline())];
        all.extend(self.0.validation.iter().map(|s: &Scores| ("validation".to_owned(), s.headline())));
        all.extend(self.0.folds.iter().enumerate().map(|(i, s)| (format!("fold {i}"), s.headline())));
        all.extend(self.0.control.iter().map(|c| ("control".to_owned(), c.score)));
        let values = all.iter().map(|(_, v)| *v as f32).collect();
        let grid = Grid::new(vec![Axis::new("rows", all.into_iter().map(|(name, _)| name))], values);
        let what = if self.0.train.accuracy.is_some() { "Accuracy of the probe" } else { "R² of the probe" };
        grid.map_or_else(|e| e.to_string(), |g| bars(&g, what))
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![direction("weights", &self.0)?, ("bias".to_owned(), Array::from_slice(&[self.0.probe.bias], &[1])?)])
    }
}

/// What probes say of texts.
struct Asked {
    targets: Vec<Target>,
    scores: Vec<Vec<f64>>,
}

impl Asked {
    fn grid(&self) -> Result<Grid> {
        let texts = self.scores.first().map_or(0, Vec::len);
        let axes = vec![Axis::new("probe", self.targets.iter().map(ToString::to_string)), Axis::counted("text", texts)];
        Grid::new(axes, self.scores.iter().flatten().map(|v| *v as f32).collect())
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.grid() {
            Ok(grid) => grid.fmt(f),
            Err(e) => e.fmt(f),
        }
    }
}

impl Finding for Asked {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "scores": to_json(&self.grid()?)? }))
    }

    fn figure(&self) -> String {
        let remark = "above 0: the second class is the likelier (of linear probes: the label itself)";
        self.grid().map_or_else(|e| e.to_string(), |g| heatmap(&g, "What the probes say", remark))
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("scores".to_owned(), self.grid()?.to_array()?)])
    }
}
