//! Probes on disk: safetensors with, for each, `SITE@POSITION.weights` `[width]` and `SITE@POSITION.bias` `[1]`, float32, and in
//! `__metadata__` the texts `format` ("mlxterp.probes"), `model`, and `kinds`, a JSON object from `SITE@POSITION` to the
//! kind and whether the fit converged.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::probe::{Kind, Probe};
use super::sweep::Target;
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::core::trace::TraceOptions;
use crate::core::weights::store;
use crate::error::{ErrorKind, Result, bail, err};
use crate::utils::linear::Matrix;
use crate::utils::{Progress, activations};

const FORMAT: &str = "mlxterp.probes";

/// Probes by site and position.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// The model whose states they read.
    pub model: String,
    /// In their order.
    pub probes: Vec<(Target, Probe)>,
}

#[derive(Serialize, Deserialize)]
struct About {
    kind: Kind,
    converged: bool,
}

impl Probes {
    /// Writes them to a .safetensors file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let (mut arrays, mut kinds) = (Vec::new(), serde_json::Map::new());
        for (target, probe) in &self.probes {
            arrays.push((format!("{target}.weights"), Array::from_slice(&probe.weights, &[probe.weights.len()])?));
            arrays.push((format!("{target}.bias"), Array::from_slice(&[probe.bias], &[1])?));
            let about = serde_json::to_value(About { kind: probe.kind, converged: probe.converged });
            kinds.insert(target.to_string(), about.map_err(|e| err!(Backend, "{e}"))?);
        }
        let kinds = serde_json::Value::Object(kinds).to_string();
        let texts = [("format", FORMAT.to_owned()), ("model", self.model.clone()), ("kinds", kinds)];
        store::save(path.as_ref(), &arrays, &texts.map(|(k, v)| (k.to_owned(), v)).into())
    }

    /// Reads what [`Probes::save`] wrote, in the order of their names.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || {
            let file = store::load(path)?;
            let text = |key: &str| file.metadata.get(key).cloned().unwrap_or_default();
            if text("format") != FORMAT {
                bail!(Unsupported, "no file of probes: its metadata have no format \"{FORMAT}\"");
            }
            let kinds: BTreeMap<String, About> =
                serde_json::from_str(&text("kinds")).map_err(|e| err!(Corrupt, "metadata `kinds`: {e}"))?;
            let part = |name: String| {
                let found = file.arrays.get(&name).filter(|a| a.ndim() == 1 && a.dim(0) > 0);
                let numbers = found.ok_or_else(|| err!(Corrupt, "no vector '{name}'"))?.to_vec::<f32>()?;
                match numbers.iter().all(|v| v.is_finite()) {
                    true => Ok(numbers),
                    false => Err(err!(Corrupt, "'{name}' holds infinities or NaN")),
                }
            };
            let one = |(name, about): (String, About)| {
                let place = name.rsplit_once('@').and_then(|(site, at)| Some((site.to_owned(), at.parse().ok()?)));
                let (site, position) = place.ok_or_else(|| err!(Corrupt, "'{name}' is not SITE@POSITION"))?;
                let (weights, bias) = (part(format!("{name}.weights"))?, part(format!("{name}.bias"))?[0]);
                let probe = Probe { kind: about.kind, weights, bias, converged: about.converged };
                Ok((Target { site, position }, probe))
            };
            Ok(Self { model: text("model"), probes: kinds.into_iter().map(one).collect::<Result<_>>()? })
        };
        read().map_err(|e: crate::error::Error| match e.kind() {
            ErrorKind::NotFound | ErrorKind::Io => e,
            _ => e.context(path.display()),
        })
    }

    /// What each says of texts: `[probe][text]`, labels of linear probes, log odds of others.
    pub fn scores(
        &self,
        model: &Model,
        texts: impl Into<Prompts>,
        batch_size: usize,
        options: &TraceOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Vec<f64>>> {
        let rows = model.batch(texts)?.rows().to_vec();
        let (mut sites, mut picks) = (Vec::new(), Vec::new());
        for (target, _) in &self.probes {
            if !sites.contains(&target.site) {
                sites.push(target.site.clone());
            }
            if !picks.iter().any(|(p, _)| *p == target.position) {
                picks.push((target.position, target.position.pick(&rows)?));
            }
        }
        let wanted: Vec<_> = picks.iter().map(|(_, pick)| pick.clone()).collect();
        for site in &sites {
            model.sites().resolve(site)?;
        }
        let found = activations(model, &rows, &sites, &wanted, options, batch_size, progress)?;
        let one = |(target, probe): &(Target, Probe)| {
            let s = sites.iter().position(|s| *s == target.site).unwrap_or_default();
            let p = picks.iter().position(|(p, _)| *p == target.position).unwrap_or_default();
            let x = Matrix::of(found.widths[s], &found.values[s][p])?;
            probe.scores(&x).map_err(|e| e.context(target))
        };
        self.probes.iter().map(one).collect()
    }
}
