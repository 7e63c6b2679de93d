//! What reading one site costs through each front end: the same measurement in C, C++, Python and Swift, one table.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{install, model, paths, python, setup, shell, swift};

/// Front ends and the most that a read may cost in them, in microseconds.
const BOUNDS: &[(&str, f64)] = &[
    ("C", 1.0),
    ("C++", 1.0),
    ("Swift, by name", 2.0),
    ("Swift, by member", 2.0),
    ("Python, by name", 5.0),
    ("Python, by member", 5.0),
];

/// Builds everything with optimisation, runs each program `tries` times in turn, and prints the least that each front end
/// took. An error if that is above its bound.
pub fn run(tries: usize) -> Result<()> {
    setup::run(None)?;
    let model = model::fetch()?;
    let home = paths::root().join("target/swift");
    let prefix = home.join("release");
    install::run(&prefix, None)?;

    let native = native(&home, &prefix)?;
    let environment = python::environment("python")?;
    let swift = swift::Toolchain::find();
    let mut commands: Vec<Box<dyn Fn() -> Result<Command>>> = vec![
        Box::new(|| Ok(Command::new(&native))),
        Box::new(|| {
            let mut python = Command::new(&environment);
            python.arg(paths::root().join("bindings/python/benchmarks/site_read.py"));
            python.env("MLXTERP_LIBRARY", prefix.join("lib").join(install::file_name()));
            Ok(python)
        }),
    ];
    if let Some(swift) = &swift {
        let (package, prefix) = (paths::root(), &prefix);
        let scratch = home.join("package").display().to_string();
        let chosen = move |verb| [verb, "-c", "release", "--scratch-path"].map(String::from);
        let build = [&chosen("build")[..], &[scratch.clone(), "--product".into(), "SiteRead".into()]].concat();
        shell::run(&mut swift.command(&package, prefix, &build)?)?;
        commands.push(Box::new(move || {
            let run = [&chosen("run")[..], &[scratch.clone(), "--skip-build".into()]].concat();
            let mut command = swift.command(&package, prefix, &run)?;
            command.arg("SiteRead");
            Ok(command)
        }));
    } else {
        println!("   Swift is left out: there is none here (`cargo xtask swift` installs one where it can)");
    }

    let mut all: Vec<(String, f64)> = Vec::new();
    for _ in 0..tries {
        for command in &commands {
            let mut command = command()?;
            command.arg(&model);
            all.extend(figures(&shell::output(&mut command)?)?);
        }
    }
    table(&all)
}

/// The program in C and C++.
fn native(home: &Path, prefix: &Path) -> Result<PathBuf> {
    let program = home.join("site_read");
    let lib = prefix.join("lib");
    let mut cc = Command::new("c++");
    cc.args(["-O2", "-std=c++17", "-I"]).arg(prefix.join("include"));
    cc.arg(paths::root().join("tests/bench/site_read.cpp")).arg("-o").arg(&program);
    cc.arg("-L").arg(&lib).arg("-lmlxterp").arg(format!("-Wl,-rpath,{}", lib.display()));
    shell::run(&mut cc)?;
    Ok(program)
}

/// The lines "front end, tab, microseconds" of what a program said; the others are shown.
fn figures(said: &str) -> Result<Vec<(String, f64)>> {
    let mut found = Vec::new();
    for line in said.lines() {
        match line.split_once('\t') {
            Some((name, number)) => found.push((name.to_owned(), number.trim().parse().context("a figure")?)),
            None => println!("   {line}"),
        }
    }
    Ok(found)
}

fn table(all: &[(String, f64)]) -> Result<()> {
    println!("\n| front end | least | median | bound |\n|---|---|---|---|");
    let mut above = Vec::new();
    for (name, bound) in BOUNDS {
        let mut own: Vec<f64> = all.iter().filter(|(n, _)| n == name).map(|(_, number)| *number).collect();
        own.sort_by(f64::total_cmp);
        let Some(least) = own.first() else { continue };
        println!("| {name} | {least:.2} µs | {:.2} µs | {bound} µs |", own[own.len() / 2]);
        if least > bound {
            above.push(*name);
        }
    }
    if !above.is_empty() {
        bail!("above the bound: {}", above.join("; "));
    }
    Ok(())
}
