//! Every test, step by step.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{model, paths, setup, shell};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[("fmt", fmt), ("clippy", clippy), ("rust", rust)];

/// Runs the steps chosen.
pub fn run(only: &[String], skip: &[String]) -> Result<()> {
    let known: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = only.iter().chain(skip).find(|s| !known.contains(&s.as_str())) {
        bail!("no step '{unknown}': the steps are {}", known.join(", "));
    }
    setup::run(None)?;
    model::fetch()?;
    let chosen = |name: &str| (only.is_empty() || only.iter().any(|o| o == name)) && !skip.iter().any(|s| s == name);
    for (name, step) in STEPS.iter().filter(|(name, _)| chosen(name)) {
        println!("== {name}");
        let start = Instant::now();
        step()?;
        println!("== {name}: done in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn fmt() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn rust() -> Result<()> {
    shell::run(shell::cargo().args(["test", "--workspace"]))
}
