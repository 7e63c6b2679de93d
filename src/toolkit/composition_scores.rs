//! `composition_scores`: how much of what a head writes later heads read.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::attention::{Composition, composition_scores};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::{Axis, Finding, Grid};
use crate::visualization::{bars, heatmap};

pub(super) const TOOL: Tool = Tool {
    name: "composition_scores",
    about: "how much of what each head writes the queries, keys and values of later heads read, as weights say",
    arrays: &[],
    metric: false,
    run,
};

/// Up to so many heads a table of all pairs can be read.
const TABLE: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layers {
    #[serde(default)]
    pub(super) layers: Option<Vec<usize>>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    call.weights_only()?;
    let options: Layers = call.read()?;
    Ok(Box::new(composition_scores(model, options.layers.as_deref())?))
}

impl Finding for Composition {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let heads = self.scores.axes[1].len();
        let drawn = ["q", "k", "v"].into_iter().enumerate().map(|(i, kind)| {
            let title = format!("{}-composition", kind.to_uppercase());
            if heads <= TABLE {
                let values = self.scores.values[i * heads * heads..][..heads * heads].to_vec();
                let remark =
                    "what each head (down) writes and a later one (across) reads, less what random matrices give";
                return heatmap(&Grid { axes: self.scores.axes[1..].to_vec(), values }, &title, remark);
            }
            let best = self.best(kind, 30).unwrap_or_default();
            let axis = Axis::new("pair", best.iter().map(|(from, to, _)| format!("{from} → {to}")));
            bars(&Grid { axes: vec![axis], values: best.iter().map(|b| b.2).collect() }, &title)
        });
        drawn.collect()
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("scores".to_owned(), self.scores.to_array()?)])
    }
}
