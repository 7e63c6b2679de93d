//! Writes the Swift and the C half of the bridge, and says where the library finds MLX.

use std::path::{Path, PathBuf};

fn main() {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let repository = here.join("../..");
    let generated = repository.join("target/swift-bridge");
    println!("cargo::rerun-if-changed=src/lib.rs");
    std::fs::create_dir_all(&generated).expect("a folder that can be written");
    swift_bridge_build::parse_bridges(["src/lib.rs"]).write_all_concatenated(&generated, "lens-bridge");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        run_path(&repository.join("target/mlx/wheel/mlx/lib"));
    }
}

/// On Linux MLX is a library of its own, which the repository's set-up fetched.
fn run_path(mlx: &Path) {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-rpath,{}", mlx.canonicalize().as_deref().unwrap_or(mlx).display());
}
