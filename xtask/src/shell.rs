//! Running other programs, and remembering what is done.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// This very cargo, without what it told this program about its own package: some build scripts watch those variables,
/// and would run anew whenever cargo is called from here and from a terminal in turn.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::paths::root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a program to its end; its failure is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown} failed ({status})");
    }
    Ok(())
}

/// Runs a program and returns what it prints.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let out = command.output().with_context(|| format!("cannot start {shown}"))?;
    if !out.status.success() {
        bail!("{shown} failed ({})\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<std::path::PathBuf> {
    let text = output(cargo().args(["metadata", "--format-version=1", "--no-deps", "--quiet"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    Ok(metadata["target_directory"].as_str().unwrap_or("target").into())
}

/// Does `work` unless `dir` holds a stamp that says it was done for this `key`. A half-done `dir` is begun anew.
pub fn once(dir: &Path, key: &str, what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = dir.join(".done");
    if std::fs::read_to_string(&stamp).is_ok_and(|k| k == key) {
        return Ok(());
    }
    println!("   {what}");
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    work()?;
    std::fs::write(stamp, key)?;
    Ok(())
}
