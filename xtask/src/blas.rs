//! The BLAS under MLX's CPU backend. The wheel bundles the reference BLAS, 10 to 60 times slower than the others.
//!
//! `libmlx.so` asks for two libraries by name in `mlx_cpu.libs` beside it. Each candidate is a folder with libraries of
//! those names; the folder in use is a symbolic link to one of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{paths, python, shell};

/// Candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Blas {
    /// What the wheel bundles.
    Reference,
    /// OpenBLAS as the scipy project builds it.
    Openblas,
    /// Intel MKL (x86-64 only).
    Mkl,
}

impl Blas {
    /// Chosen by measurement (docs/performance.md): as fast as MKL on long products, and its sums do not depend on where
    /// in memory a matrix lies, so that equal computations give equal bits.
    fn best() -> Self {
        Blas::Openblas
    }

    fn name(self) -> &'static str {
        match self {
            Blas::Reference => "reference",
            Blas::Openblas => "openblas",
            Blas::Mkl => "mkl",
        }
    }
}

fn folder(blas: Blas) -> PathBuf {
    paths::mlx().join("blas").join(blas.name())
}

fn in_use() -> PathBuf {
    paths::wheel().join("mlx_cpu.libs")
}

/// Puts a candidate in place: the one asked for by argument or by `MLXTERP_BLAS`, else the one already in use, else the
/// best. What the wheel bundles stays beside it, for tools that cannot run the newest processors' instructions.
pub fn install(argument: Option<Blas>) -> Result<()> {
    let link = in_use();
    if link.is_dir() && !link.is_symlink() {
        std::fs::create_dir_all(paths::mlx().join("blas"))?;
        if folder(Blas::Reference).exists() {
            std::fs::remove_dir_all(folder(Blas::Reference))?;
        }
        std::fs::rename(&link, folder(Blas::Reference))?;
    }
    let wanted = argument.or(asked_by_environment()?).or_else(current).unwrap_or(Blas::best());
    prepare(wanted)?;
    point(wanted)
}

fn asked_by_environment() -> Result<Option<Blas>> {
    let Some(name) = std::env::var_os("MLXTERP_BLAS") else { return Ok(None) };
    let name = name.to_string_lossy();
    match Blas::from_str(&name, true) {
        Ok(blas) => Ok(Some(blas)),
        Err(_) => bail!("MLXTERP_BLAS is '{name}': the choices are reference, openblas and mkl"),
    }
}

/// The candidate that the link leads to.
fn current() -> Option<Blas> {
    let target = std::fs::read_link(in_use()).ok()?;
    Blas::from_str(&target.file_name()?.to_string_lossy(), true).ok()
}

/// The link is relative: the repository may be moved.
fn point(blas: Blas) -> Result<()> {
    let (link, target) = (in_use(), Path::new("../blas").join(blas.name()));
    if std::fs::read_link(&link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    if link.is_symlink() {
        std::fs::remove_file(&link)?;
    }
    std::os::unix::fs::symlink(target, link)?;
    Ok(())
}

fn prepare(blas: Blas) -> Result<()> {
    match blas {
        Blas::Reference => Ok(()),
        Blas::Openblas => openblas(),
        Blas::Mkl => mkl(),
    }
}

/// File names of the BLAS and LAPACK that libmlx asks for.
fn wanted_names() -> Result<[String; 2]> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder(Blas::Reference))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("libblas") || name.starts_with("liblapack") {
            names.push(name);
        }
    }
    names.sort();
    names.try_into().ok().context("the MLX wheel does not bundle one BLAS and one LAPACK")
}

/// A new wheel may ask for other names.
fn key(packages: &str) -> Result<String> {
    Ok(format!("{packages} as {}", wanted_names()?.join(" ")))
}

/// Makes a library of each wanted name out of `source`, depending on `libraries` in the same folder.
fn stand_in(dir: &Path, source: &str, libraries: &[&str]) -> Result<()> {
    let file = dir.join("stand_in.c");
    std::fs::write(&file, source)?;
    for name in wanted_names()? {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN"]).arg(format!("-Wl,-soname,{name}"));
        cc.arg("-o").arg(dir.join(&name)).arg(&file).arg(format!("-L{}", dir.display()));
        cc.args(libraries.iter().map(|l| format!("-l:{l}"))).arg("-Wl,--allow-shlib-undefined");
        shell::run(&mut cc)?;
    }
    Ok(())
}

fn mkl() -> Result<()> {
    const PARTS: [&str; 2] = ["mkl==2026.2.0", "tbb==2023.1.0"];
    if !cfg!(target_arch = "x86_64") {
        bail!("MKL exists for x86-64 only: use --blas openblas");
    }
    let dir = folder(Blas::Mkl);
    shell::once(&dir, &key(&PARTS.join(" "))?, "MKL (200 MB, once)", || {
        let scratch = dir.join("unpacked");
        let python = python::environment("build")?;
        for part in PARTS {
            python::unpack(&python, part, &scratch)?;
        }
        // The wheels keep their libraries under `<name>.data/data/lib`.
        let mut folders = vec![scratch.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                if path.is_dir() {
                    folders.push(path);
                } else if is_wanted_of_mkl(&name) {
                    std::fs::rename(&path, dir.join(&name))?;
                }
            }
        }
        std::fs::remove_dir_all(scratch)?;
        // Linked by layer, not through libmkl_rt: nothing to choose by environment variables at run time.
        let layers = ["libmkl_intel_lp64.so.3", "libmkl_tbb_thread.so.3", "libmkl_core.so.3", "libtbb.so.12"];
        stand_in(&dir, "", &layers)
    })
}

/// The interface, threading, core and the kernels that the core loads by processor.
fn is_wanted_of_mkl(name: &str) -> bool {
    let kernels =
        ["libmkl_avx2", "libmkl_avx512", "libmkl_def", "libmkl_vml_avx2", "libmkl_vml_avx512", "libmkl_vml_def"];
    ["libmkl_intel_lp64.so", "libmkl_tbb_thread.so", "libmkl_core.so", "libtbb.so.12"]
        .iter()
        .any(|p| name.starts_with(p))
        || kernels.iter().any(|p| name.starts_with(&format!("{p}.so")))
}

fn openblas() -> Result<()> {
    const PART: &str = "scipy-openblas32==0.3.34.481.3";
    let dir = folder(Blas::Openblas);
    shell::once(&dir, &key(PART)?, "OpenBLAS", || {
        let scratch = dir.join("unpacked");
        python::unpack(&python::environment("build")?, PART, &scratch)?;
        let lib = scratch.join("scipy_openblas32/lib");
        for entry in std::fs::read_dir(&lib)? {
            let path = entry?.path();
            if path.is_file() && path.to_string_lossy().contains(".so") {
                std::fs::rename(&path, dir.join(path.file_name().context("a library without a name")?))?;
            }
        }
        std::fs::remove_dir_all(scratch)?;
        stand_in(&dir, &forwarding()?, &["libscipy_openblas.so"])
    })
}

/// The scipy build prefixes its symbols: jump from each plain name that libmlx imports to the prefixed one.
fn forwarding() -> Result<String> {
    let libmlx = paths::wheel().join("mlx/lib/libmlx.so");
    let symbols = shell::output(Command::new("nm").args(["-D", "--undefined-only"]).arg(libmlx))?;
    let jump = if cfg!(target_arch = "x86_64") { "jmp" } else { "b" };
    let plt = if cfg!(target_arch = "x86_64") { "@PLT" } else { "" };
    let names = symbols.lines().filter_map(|l| l.split_whitespace().last());
    let blas = names.filter(|n| n.starts_with("cblas_") || (n.ends_with('_') && !n.starts_with('_')));
    Ok(blas.map(|n| format!("__asm__(\".globl {n}\\n{n}: {jump} scipy_{n}{plt}\\n\");\n")).collect())
}

/// Measures each candidate with the same program, one after another, and puts back what was in use.
pub fn bench() -> Result<()> {
    let before = current().unwrap_or(Blas::best());
    let candidates = Blas::value_variants().iter().filter(|b| **b != Blas::Mkl || cfg!(target_arch = "x86_64"));
    let result = candidates.copied().try_for_each(|blas| {
        prepare(blas)?;
        point(blas)?;
        println!("{}", blas.name());
        shell::run(shell::cargo().args(["run", "--quiet", "--release", "--example", "matmul_speed"]))
    });
    point(before)?;
    result
}
