//! Where the built libraries and programs find MLX, and the name by which others find us.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if os == "macos" {
        // `cargo xtask install` gives the library its name there.
        return;
    }
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    // For every target, though a program has no use for it: an argument for shared libraries alone is handed on by cargo
    // to those of dependents, which have names of their own.
    println!("cargo::rustc-link-arg=-Wl,-soname,libmlxterp.so.{major}");
    // An installed library looks beside itself and in its own folder; one built here looks where the set-up put MLX.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    let lib = root.join("target/mlx/wheel/mlx/lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/mlxterp/mlx/lib");
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
