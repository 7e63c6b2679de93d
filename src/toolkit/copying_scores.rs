//! `copying_scores`: whether heads make likelier what they look at.

use serde_json::Value;

use super::composition_scores::Layers;
use super::{Call, Tool};
use crate::analysis::attention::{Copying, copying_scores};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::error::Result;
use crate::utils::Finding;
use crate::visualization::heatmap_up_to;

pub(super) const TOOL: Tool = Tool {
    name: "copying_scores",
    about: "whether each head makes likelier the token that it looks at: eigenvalues of the full OV circuit",
    arrays: &[],
    metric: false,
    run,
};

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    call.weights_only()?;
    let options: Layers = call.read()?;
    Ok(Box::new(copying_scores(model, options.layers.as_deref())?))
}

impl Finding for Copying {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        heatmap_up_to(
            &self.scores,
            1.0,
            "Copying",
            "sum of the eigenvalues of the full OV circuit by the sum of their sizes",
        )
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("scores".to_owned(), self.scores.to_array()?)])
    }
}
