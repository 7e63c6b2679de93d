//! `harvest`: activations over a data set to a folder; the state of one, and its shards.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::call::to_json;
use super::{Call, Tool};
use crate::core::model::Model;
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::interpretability::harvest::{Harvest, HarvestOptions, Index, Part, Shard, harvest};
use crate::utils::{Axis, Document, Documents, Finding, Grid};
use crate::visualization::bars;

pub(super) const TOOL: Tool = Tool {
    name: "harvest",
    about: "activations of sites over a data set, written to a folder of shards as they come; resumable",
    arrays: &[],
    metric: false,
    run,
};

const OWN: &[&str] = &["out", "data", "key", "documents", "start", "last", "shard"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The folder.
    out: String,
    /// A .txt or .jsonl file.
    data: Option<String>,
    /// Where a line of JSON has its text.
    key: Option<String>,
    /// Texts or lists of ids, instead of a file.
    documents: Option<Vec<Document>>,
    /// The number of the first document given, where the data set comes in parts.
    start: Option<u64>,
    /// Whether the data set ends with them.
    last: Option<bool>,
    /// Nothing is harvested: this shard is read.
    shard: Option<usize>,
}

fn run(model: &Model, call: &mut Call<'_>) -> Result<Box<dyn Finding>> {
    let (options, how): (Options, HarvestOptions) = call.read_beside(OWN)?;
    let trace = call.trace_options();
    let part = Part { start: options.start.unwrap_or(0), last: options.last.unwrap_or(true) };
    let index = match (options.data, options.documents) {
        (Some(_), Some(_)) => {
            bail!(InvalidArgument, "'harvest' takes the file 'data' or the list 'documents', not both")
        }
        (Some(file), None) => {
            if part != Part::default() {
                bail!(InvalidArgument, "'start' and 'last' go with 'documents': a file is given whole");
            }
            let documents = Documents::open(file, options.key.as_deref().unwrap_or("text"))?;
            harvest(model, documents, part, &options.out, &how, &trace, &mut call.progress)?
        }
        (None, Some(all)) => {
            let documents = all.into_iter().map(Ok);
            harvest(model, documents, part, &options.out, &how, &trace, &mut call.progress)?
        }
        (None, None) => Harvest::open(&options.out)?.index,
    };
    let shard = options.shard.map(|i| Harvest::open(&options.out)?.shard(i)).transpose()?;
    Ok(Box::new(Found { index, shard }))
}

struct Found {
    index: Index,
    shard: Option<Shard>,
}

impl Found {
    fn lengths(&self) -> Result<Grid> {
        let n = self.index.vectors as f64;
        let names = self.index.sites.iter().map(|s| s.name.clone());
        Grid::new(
            vec![Axis::new("site", names)],
            self.index.sites.iter().map(|s| if n > 0.0 { (s.norms / n) as f32 } else { 0.0 }).collect(),
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let i = &self.index;
        let state = if i.complete { "complete" } else { "not complete: harvest again to go on" };
        writeln!(
            f,
            "{} vectors of {} sites from {} documents, {} in {} shards ({state})",
            i.vectors,
            i.sites.len(),
            i.documents,
            i.options.dtype,
            i.shards.len()
        )?;
        match self.lengths() {
            Ok(grid) => write!(f, "mean length of the vectors\n{grid}"),
            Err(e) => e.fmt(f),
        }
    }
}

impl Finding for Found {
    fn kind(&self) -> &'static str {
        TOOL.name
    }

    /// The index, and the vectors' mean lengths.
    fn json(&self) -> Result<Value> {
        let mut all = to_json(&self.index)?;
        all["mean_lengths"] = to_json(&self.lengths()?)?;
        Ok(all)
    }

    fn figure(&self) -> String {
        self.lengths().map_or_else(|e| e.to_string(), |g| bars(&g, "Mean length of the vectors, by site"))
    }

    fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let Some(shard) = &self.shard else { return Ok(Vec::new()) };
        let mut all = shard.sites.clone();
        for (name, array) in
            [("tokens", &shard.tokens), ("documents", &shard.documents), ("positions", &shard.positions)]
        {
            all.push((name.to_owned(), array.clone()));
        }
        Ok(all)
    }
}
