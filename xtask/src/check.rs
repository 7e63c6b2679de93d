//! Every test, step by step.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{model, paths, python as environments, setup, shell, swift, wheel};

/// A name, and the work; it is told whether it was asked for by name.
type Step = (&'static str, fn(bool) -> Result<()>);

const STEPS: &[Step] = &[
    ("fmt", fmt),
    ("clippy", clippy),
    ("rust", rust),
    ("python", python),
    ("python-mlx", python_mlx),
    ("wheel", wheel::test),
    ("swift", swift::test),
    ("docs", docs),
];

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
        step(only.iter().any(|o| o == name))?;
        println!("== {name}: done in {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn fmt(_asked: bool) -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(_asked: bool) -> Result<()> {
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn rust(_asked: bool) -> Result<()> {
    // The snippets of the docs run Python with numpy, and some with MLX.
    environments::environment("python")?;
    environments::environment("python-mlx")?;
    model::make_4bit()?;
    model::fetch_all()?;
    shell::run(shell::cargo().args(["test", "--workspace", "--no-fail-fast"]))
}

/// The Python tests with numpy alone, and the types.
fn python(_asked: bool) -> Result<()> {
    let python = environments::environment("python")?;
    let package = paths::root().join("bindings/python");
    shell::run(Command::new(&python).args(["-m", "mypy", "--strict", "mlxterp"]).current_dir(&package))?;
    pytest("python")
}

/// The Python tests with MLX's own Python package in the same process.
fn python_mlx(_asked: bool) -> Result<()> {
    pytest("python-mlx")
}

fn pytest(environment: &str) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--quiet", "--lib"]))?;
    let library = shell::target_directory()?.join("debug").join(format!(
        "{}mlxterp{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    let package = paths::root().join("bindings/python");
    let mut pytest = Command::new(environments::environment(environment)?);
    pytest.args(["-m", "pytest", "-q", "tests"]).current_dir(package).env("MLXTERP_LIBRARY", library);
    shell::run(&mut pytest)
}

/// The documentation site, every link checked.
fn docs(_asked: bool) -> Result<()> {
    let python = environments::environment("docs")?;
    let site = paths::root().join("target/site");
    shell::run(
        Command::new(python)
            .args(["-m", "mkdocs", "build", "--strict", "--site-dir"])
            .arg(site)
            .current_dir(paths::root()),
    )
}
