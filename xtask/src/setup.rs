//! Making plain `cargo build` work.

use anyhow::Result;

use crate::{bindings, blas, mlx, mlxc, paths, prerequisites};

/// Does what is not done yet. On a Mac there is nothing to do: mlx-sys builds MLX with Metal by itself.
pub fn run(choice: Option<blas::Blas>) -> Result<()> {
    if cfg!(target_os = "macos") {
        return prerequisites::check();
    }
    let done = paths::mlx().join("cargo.toml");
    if !done.exists() {
        prerequisites::check()?;
    }
    mlx::fetch()?;
    let source = mlxc::source()?;
    mlxc::compile(&source)?;
    bindings::generate(&source)?;
    blas::install(choice)?;
    write_override(&done)
}

/// Cargo lets a target stand in for the build script of a crate with `links`: mlx-sys stays as published.
fn write_override(path: &std::path::Path) -> Result<()> {
    let mlx = paths::mlx();
    let (bindings, lib, mlxc) = (mlx.join("bindings"), paths::wheel().join("mlx/lib"), mlx.join("mlxc"));
    let mut text = String::from("# Written by `cargo xtask setup`.\n");
    for arch in ["x86_64", "aarch64"] {
        text += &format!(
            "[target.{arch}-unknown-linux-gnu.mlx]\n\
             rustc-link-search = [\"native={}\", \"native={}\"]\n\
             rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\", \"dylib=stdc++\"]\n\
             rustc-env = {{ OUT_DIR = \"{}\" }}\n",
            mlxc.display(),
            lib.display(),
            bindings.display()
        );
    }
    // Untouched when equal: cargo rebuilds what depends on it.
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(path, text)?;
    Ok(())
}
