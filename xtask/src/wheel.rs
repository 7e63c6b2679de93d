//! The Python package with the library inside: one wheel for every Python 3 of a platform.
//!
//! MLX is not inside. It comes from its own wheel, by the extras `cpu`, `cuda12` and `cuda13`, so that the library and
//! Python's MLX are one copy in a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{install, model, paths, python, setup, shell};

/// Seen from `mlxterp/` in a Python's packages: where the MLX wheel keeps its library.
const RUN_PATH: &str = "$ORIGIN/../mlx/lib";

/// Tells setuptools that the wheel is for one platform, and for any Python.
const SETUP: &str = r#"from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


setup(distclass=WithLibrary, cmdclass={"bdist_wheel": AnyPython})
"#;

fn home() -> PathBuf {
    paths::root().join("target/wheel")
}

/// Makes a wheel in `target/wheel` around a library that was built already, or builds one with optimisation first.
pub fn run(library: Option<&Path>) -> Result<PathBuf> {
    let library = match library {
        Some(path) => path.to_owned(),
        None => {
            setup::run(None)?;
            shell::run(shell::cargo().args(["build", "--release", "--lib"]))?;
            shell::target_directory()?.join("release").join(install::file_name())
        }
    };
    let tools = python::environment("wheel")?;
    for folder in ["stage", "raw", "out"] {
        let folder = home().join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    let stage = home().join("stage");
    stage_package(&stage, &library)?;
    if cfg!(target_os = "linux") {
        let inside = stage.join("mlxterp").join(install::file_name());
        shell::run(Command::new("strip").arg("--strip-debug").arg(&inside))?;
        let patchelf = tools.with_file_name("patchelf");
        shell::run(Command::new(patchelf).args(["--set-rpath", RUN_PATH]).arg(&inside))?;
    }
    let mut pip = Command::new(&tools);
    pip.args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]);
    shell::run(pip.arg("-w").arg(home().join("raw")).arg(&stage))?;
    let raw = only_wheel(&home().join("raw"))?;
    if cfg!(target_os = "linux") {
        // Names the oldest systems it runs on; refuses one that needs more than such a system has.
        let mut auditwheel = Command::new(&tools);
        auditwheel.args(["-m", "auditwheel", "repair", "--exclude", "libmlx.so", "-w"]).arg(home().join("out"));
        let path = std::env::join_paths(
            std::iter::once(tools.parent().context("an environment without a folder")?.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
        )?;
        shell::output(auditwheel.arg(&raw).env("PATH", path))?;
    } else {
        fs::copy(&raw, home().join("out").join(raw.file_name().context("a wheel without a name")?))?;
    }
    only_wheel(&home().join("out"))
}

fn stage_package(stage: &Path, library: &Path) -> Result<()> {
    let from = paths::root().join("bindings/python");
    fs::copy(from.join("pyproject.toml"), stage.join("pyproject.toml"))?;
    fs::write(stage.join("setup.py"), SETUP)?;
    let package = stage.join("mlxterp");
    copy_sources(&from.join("mlxterp"), &package)?;
    fs::copy(library, package.join(install::file_name()))?;
    Ok(())
}

/// The sources of a package and those inside it, not what Python compiled them to.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?;
        if path.is_file() {
            fs::copy(&path, to.join(name))?;
        } else if name != "__pycache__" {
            copy_sources(&path, &to.join(name))?;
        }
    }
    Ok(())
}

fn only_wheel(folder: &Path) -> Result<PathBuf> {
    let mut wheels = Vec::new();
    for entry in fs::read_dir(folder)? {
        wheels.push(entry?.path());
    }
    match <[PathBuf; 1]>::try_from(wheels) {
        Ok([wheel]) => Ok(wheel),
        Err(found) => bail!("{} should hold one wheel, not {found:?}", folder.display()),
    }
}

/// In a fresh environment without compiler, cargo or checkout: installs the wheel with MLX for the CPU, runs the tour
/// and the Python tests, then imports MLX's own package before and after ours.
pub fn test(_asked: bool) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--quiet", "--lib"]))?;
    let wheel = run(Some(&shell::target_directory()?.join("debug").join(install::file_name())))?;
    println!("   {}", wheel.file_name().unwrap_or_default().to_string_lossy());
    let venv = home().join("venv");
    if venv.exists() {
        fs::remove_dir_all(&venv)?;
    }
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let bare = |arguments: &[&str]| {
        let mut python = Command::new(venv.join("bin/python"));
        // Nothing of this machine but Python: neither a compiler nor what cargo set.
        python.args(arguments).current_dir(home()).env("PATH", venv.join("bin")).env_remove("LD_LIBRARY_PATH");
        python.env("MLXTERP_TEST_INSTALLED", "1").env_remove("MLXTERP_LIBRARY").env_remove("PYTHONPATH");
        python
    };
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let with_cpu = if cfg!(target_os = "linux") { "[cpu,numpy]" } else { "[numpy]" };
    let wanted = format!("{}{with_cpu}", wheel.display());
    shell::run(bare(&pip).args([&wanted, "pytest==9.2.0"]))?;
    let inside = "import mlxterp, sys; assert mlxterp.__file__.startswith(sys.prefix), mlxterp.__file__";
    shell::run(&mut bare(&["-c", inside]))?;
    let tour = paths::root().join("examples/python/tour.py");
    shell::run(bare(&[]).arg(tour).arg(model::fetch()?))?;
    let tests = paths::root().join("bindings/python/tests");
    shell::run(bare(&["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(tests))?;

    shell::run(bare(&pip).arg("mlx==0.32.2"))?;
    let use_both = "x = mlxterp.from_dlpack(mx.array([1.0, 2.0]))\nassert (x + 1).tolist() == [2.0, 3.0], x";
    for imports in ["import mlxterp\nimport mlx.core as mx", "import mlx.core as mx\nimport mlxterp"] {
        shell::run(&mut bare(&["-c", &format!("{imports}\n{use_both}")]))?;
    }
    Ok(())
}
