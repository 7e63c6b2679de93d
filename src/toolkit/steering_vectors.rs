//! `steering_vectors`: directions by layer, found in texts, read from a file, or given; and written to one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Tool};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::interpretability::steering::{Contrast, Direction, Method, Normalise, SteeringVectors, steering_vectors};
use crate::utils::{Axis, Finding, Grid, Position};
use crate::visualization::bars;

pub(super) const TOOL: Tool = Tool {
    name: "steering_vectors",
    about: "a direction a layer that tells two sets of texts apart, to steer with; vectors read from files and written",
    arrays: &["vectors"],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    positive: Option<Prompts>,
    negative: Option<Prompts>,
    layers: Option<Vec<i64>>,
    site: Option<String>,
    method: Option<String>,
    position: Option<Position>,
    batch_size: Option<usize>,
    l2: Option<f64>,
    /// Of vectors that are given: what is known of each.
    state_norms: Option<Vec<Option<f32>>>,
    separations: Option<Vec<Option<f32>>>,
    /// A file to read instead of texts.
    load: Option<String>,
    /// A file to write.
    save: Option<String>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let options: Options = call.read()?;
    let sources = [
        options.positive.is_some() || options.negative.is_some(),
        options.load.is_some(),
        call.array("vectors").is_some(),
    ];
    if sources.iter().filter(|s| **s).count() != 1 {
        bail!(
            InvalidArgument,
            "'{}' takes its vectors from one place: 'positive' and 'negative' texts, a file to 'load', or the array 'vectors'",
            TOOL.name
        );
    }
    let save = options.save.clone();
    let found = match (&options.load, call.array("vectors")) {
        (Some(path), _) => chosen(SteeringVectors::load(path)?, model, options.layers.as_deref())?,
        (None, Some(array)) => given(model, array.clone(), options)?,
        (None, None) => contrasted(model, call, options)?,
    };
    found.check(model)?;
    if let Some(path) = save {
        found.save(path)?;
    }
    Ok(Box::new(found))
}

/// Of a file, the layers asked for.
fn chosen(mut all: SteeringVectors, model: &Model, layers: Option<&[i64]>) -> Result<SteeringVectors> {
    let Some(layers) = layers else { return Ok(all) };
    let pick = |i: &i64| model.layer(*i).and_then(|i| Ok((i, all.layer(i)?.clone())));
    let kept = layers.iter().map(pick).collect::<Result<BTreeMap<_, _>>>()?;
    all.layers = kept;
    Ok(all)
}

/// An array `[layer, width]` of the user's.
fn given(model: &Model, array: Array, options: Options) -> Result<SteeringVectors> {
    let Some(layers) = options.layers else { bail!(InvalidArgument, "the array 'vectors' needs 'layers': one a row") };
    if array.ndim() != 2 || array.dim(0) != layers.len() || array.dim(1) == 0 {
        bail!(Shape, "'vectors' has shape {:?}: it must be [{}, width], a row a layer", array.shape(), layers.len());
    }
    let width = array.dim(1);
    let rows = array.to_vec::<f32>()?;
    for (name, known) in [("state_norms", &options.state_norms), ("separations", &options.separations)] {
        if known.as_ref().is_some_and(|k| k.len() != layers.len()) {
            bail!(InvalidArgument, "'{name}' must have one number for each of the {} layers", layers.len());
        }
    }
    let known = |all: &Option<Vec<Option<f32>>>, k: usize| all.as_ref().and_then(|all| all[k]);
    let one = |(k, (i, row)): (usize, (&i64, &[f32]))| {
        let (state_norm, separation) = (known(&options.state_norms, k), known(&options.separations, k));
        Ok((model.layer(*i)?, Direction { vector: row.to_vec(), state_norm, separation }))
    };
    let vectors = SteeringVectors {
        method: options.method.unwrap_or_default(),
        site: options.site.unwrap_or_else(|| "output".to_owned()),
        position: options.position.map(|p| p.to_string()).unwrap_or_default(),
        model: model.short_name().to_owned(),
        model_type: model.config()["model_type"].as_str().unwrap_or_default().to_owned(),
        layers: layers.iter().zip(rows.chunks_exact(width)).enumerate().map(one).collect::<Result<_>>()?,
    };
    vectors.sound()?;
    Ok(vectors)
}

fn contrasted(model: &Model, call: &mut Call<'_>, options: Options) -> Result<SteeringVectors> {
    let (Some(positive), Some(negative)) = (options.positive, options.negative) else {
        bail!(InvalidArgument, "a contrast needs both 'positive' and 'negative' texts");
    };
    let usual = Contrast::default();
    let contrast = Contrast {
        layers: options.layers,
        site: options.site.unwrap_or(usual.site),
        method: options.method.map_or(Ok(usual.method), |name| name.parse::<Method>())?,
        position: options.position.unwrap_or(usual.position),
        batch_size: options.batch_size.unwrap_or(usual.batch_size),
        l2: options.l2.unwrap_or(usual.l2),
    };
    let trace = call.trace_options();
    steering_vectors(model, positive, negative, &contrast, &trace, &mut call.progress)
}

impl Finding for SteeringVectors {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    /// Of each layer the factors by which its vector gets each of the lengths.
    fn json(&self) -> Result<Value> {
        let v = self;
        let mut layers = Map::new();
        for (layer, d) in &v.layers {
            let unit = d.factor(Normalise::Unit).ok();
            let factors = json!({ "none": 1.0, "unit": unit, "state": d.factor(Normalise::State).ok() });
            let about = json!({
                "length": unit.map(|u| 1.0 / u), "state_norm": d.state_norm, "separation": d.separation, "factors": factors,
            });
            layers.insert(layer.to_string(), about);
        }
        Ok(json!({
            "method": v.method, "site": v.site, "position": v.position, "model": v.model, "model_type": v.model_type,
            "width": v.width(), "layers": layers,
        }))
    }

    fn figure(&self) -> String {
        let labels = self.layers.keys().map(ToString::to_string);
        let known: Option<Vec<f32>> = self.layers.values().map(|d| d.separation).collect();
        let (title, values) = match known {
            Some(values) => {
                ("Share of (positive, negative) pairs of texts that the direction puts in order, by layer", values)
            }
            None => {
                let length = |d: &Direction| d.factor(Normalise::Unit).map_or(f32::NAN, |u| (1.0 / u) as f32);
                ("Length of the vectors, by layer", self.layers.values().map(length).collect())
            }
        };
        Grid::new(vec![Axis::new("layer", labels)], values).map_or_else(|e| e.to_string(), |grid| bars(&grid, title))
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let v = self;
        let flat: Vec<f32> = v.layers.values().flat_map(|d| d.vector.iter().copied()).collect();
        let mut all = vec![("vectors".to_owned(), Array::from_slice(&flat, &[v.layers.len(), v.width()])?)];
        for (layer, d) in &v.layers {
            all.push((format!("layers.{layer}.{}", v.site), Array::from_slice(&d.vector, &[d.vector.len()])?));
        }
        Ok(all)
    }
}
