//! Everything around the library: set-up, demo, tests.

mod bindings;
mod blas;
mod check;
mod install;
mod mlx;
mod mlxc;
mod model;
mod paths;
mod prerequisites;
mod python;
mod setup;
mod shell;
mod site_read;
mod swift;
mod swift_bridge;
mod swift_snippets;
mod wheel;
mod xcframework;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo and tests of mlxterp")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch MLX and make plain `cargo build` work.
    Setup {
        /// BLAS of MLX's CPU backend: reference, openblas or mkl. Default: the fastest measured on this architecture.
        #[arg(long)]
        blas: Option<blas::Blas>,
    },
    /// Set up, fetch a small real model and show what the library does with it.
    Demo,
    /// Set up and run every test.
    Test {
        /// Run these steps only.
        #[arg(long)]
        only: Vec<String>,
        /// Leave these steps out.
        #[arg(long)]
        skip: Vec<String>,
    },
    /// Install headers, library, MLX, pkg-config file and CMake package.
    Install {
        /// The folder to install into; it may be moved afterwards.
        #[arg(long)]
        prefix: std::path::PathBuf,
        /// A library that is built already. Default: build one with optimisation.
        #[arg(long)]
        library: Option<std::path::PathBuf>,
    },
    /// Make the Python wheel with the library inside.
    Wheel {
        /// A library that is built already. Default: build one with optimisation.
        #[arg(long)]
        library: Option<std::path::PathBuf>,
    },
    /// On a Mac: make the framework that the Swift package takes through MLXTERP_XCFRAMEWORK.
    Xcframework,
    /// Find Swift; without one, install one for the tests (Debian's, 3.3 GB, in the user's cache; needs root).
    Swift,
    /// Fetch a model that the demo and the tests use.
    FetchModel {
        /// Which one.
        #[arg(value_enum, default_value = "smollm2")]
        model: model::Model,
    },
    /// Measure the BLAS candidates for the CPU backend.
    BlasBench,
    /// Measure what reading a site costs in C, C++, Swift and Python.
    SiteRead {
        /// How often each program runs; the least of them counts.
        #[arg(long, default_value_t = 5)]
        tries: usize,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { blas } => setup::run(blas),
        Task::Demo => {
            setup::run(None)?;
            model::fetch()?;
            // The development profile: what `cargo xtask test` builds too, and the work is MLX's either way.
            shell::run(shell::cargo().args([
                "run",
                "--quiet",
                "--bin",
                "mlxterp",
                "--",
                "demo",
                "--page",
                "target/logit-lens.html",
            ]))
        }
        Task::Test { only, skip } => check::run(&only, &skip),
        Task::Install { prefix, library } => install::run(&prefix, library.as_deref()),
        Task::Wheel { library } => wheel::run(library.as_deref()).map(|path| println!("{}", path.display())),
        Task::Xcframework => xcframework::run().map(|path| println!("{}", path.display())),
        Task::Swift => swift::Toolchain::ready().map(|swift| println!("{swift}")),
        Task::FetchModel { model } => {
            setup::run(None)?;
            model::fetch_one(model).map(|path| println!("{}", path.display()))
        }
        Task::SiteRead { tries } => site_read::run(tries),
        Task::BlasBench => {
            setup::run(None)?;
            blas::bench()
        }
    }
}
