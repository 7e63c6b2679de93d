//! `head_scores`: what heads look at, on prompts or on repeated random tokens.

use serde::Deserialize;
use serde_json::Value;

use super::{Call, Tool};
use crate::analysis::attention::{HeadScores, Repeated, SCORES, detect_heads, head_scores};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::Finding;
use crate::visualization::heatmap_up_to;

pub(super) const TOOL: Tool = Tool {
    name: "head_scores",
    about: "how much each head looks at the token before, at copies of its token, at what came after those, at the first token \
            and at itself, less what an even pattern would; on prompts, or without any on repeated random tokens",
    arrays: &[],
    metric: false,
    run,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    prompts: Option<Prompts>,
    #[serde(default)]
    rows: Option<usize>,
    #[serde(default)]
    length: Option<usize>,
    #[serde(default)]
    times: Option<usize>,
    #[serde(default)]
    seed: Option<u64>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let Options { prompts, rows, length, times, seed } = call.read()?;
    let Some(prompts) = prompts else {
        let usual = Repeated::default();
        let options = Repeated {
            rows: rows.unwrap_or(usual.rows),
            length: length.unwrap_or(usual.length),
            times: times.unwrap_or(usual.times),
            seed: seed.unwrap_or(usual.seed),
        };
        return Ok(Box::new(detect_heads(model, &options, &call.trace_options())?));
    };
    if rows.or(length).or(times).is_some() || seed.is_some() {
        bail!(
            InvalidArgument,
            "'{}' got prompts and options of repeated random tokens (rows, length, times, seed): give one of the two",
            TOOL.name
        );
    }
    Ok(Box::new(head_scores(model, prompts, &call.trace_options())?))
}

impl Finding for HeadScores {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    fn json(&self) -> Result<Value> {
        super::call::to_json(self)
    }

    fn figure(&self) -> String {
        let remark = "mean attention to such keys, less what an even pattern would give them";
        let drawn = SCORES
            .iter()
            .filter_map(|kind| Some(heatmap_up_to(&self.of(kind).ok()?, 1.0, &kind.replace('_', " "), remark)));
        drawn.collect()
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        Ok(vec![("scores".to_owned(), self.scores.to_array()?)])
    }
}
