//! What the commands of the analyses share: their inputs from arguments, and a result shown.

use std::path::PathBuf;

use clap::Args;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::toolkit::{self, Call};
use mlxterp::utils::Finding;
use mlxterp::visualization::page;
use mlxterp::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{print_json, say};

/// How a result is shown, and what every run is under.
#[derive(Args)]
pub struct Shown {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with the figure.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Change a site in every run: SITE=zero_out, SITE=scale(0.5), …, or JSON after the =.
    #[arg(long, value_name = "SITE=INTERVENTION")]
    set: Vec<String>,
}

impl Shown {
    /// What every run is under, as it was given.
    pub fn set(&self) -> &[String] {
        &self.set
    }

    /// Runs a tool with options (those that are null are left to their defaults) and shows what it found.
    pub fn run(&self, model: &Model, tool: &str, options: Value) -> Result<Box<dyn Finding>> {
        let found = self.find(model, tool, options)?;
        self.show(found.as_ref())?;
        Ok(found)
    }

    /// The same, without showing it.
    pub fn find(&self, model: &Model, tool: &str, options: Value) -> Result<Box<dyn Finding>> {
        let given = match options {
            Value::Object(all) => all.into_iter().filter(|(_, v)| !v.is_null()).collect::<Map<_, _>>().into(),
            other => other,
        };
        let mut call = Call::new(given);
        call.interventions = interventions(&self.set)?;
        toolkit::run(model, tool, call)
    }

    /// Prints a result, and writes its page where one was asked for.
    pub fn show(&self, found: &dyn Finding) -> Result<()> {
        if let Some(file) = &self.html {
            let text = page(found.kind(), &[found.figure()]);
            let failed = |e: std::io::Error| Error::new(ErrorKind::Io, format!("{}: {e}", file.display()));
            std::fs::write(file, text).map_err(failed)?;
        }
        if self.json { print_json(&found.json()?) } else { say(&found.to_string().trim_end()) }
    }
}

/// `SITE=INTERVENTION` as they were given.
pub fn interventions(set: &[String]) -> Result<Vec<(String, Intervention)>> {
    let one = |change: &String| {
        let Some((site, what)) = change.split_once('=') else {
            let text = format!("--set {change}: expected SITE=INTERVENTION, such as layers.3.attn=zero_out");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        };
        Ok((site.trim().to_owned(), what.parse()?))
    };
    set.iter().map(one).collect()
}
