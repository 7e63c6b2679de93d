//! Where things lie. All of it is under `target/`, which git ignores.

use std::path::PathBuf;

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// MLX, mlx-c, its bindings and the BLAS candidates.
pub fn mlx() -> PathBuf {
    root().join("target/mlx")
}

/// The unpacked MLX wheel: `mlx/lib`, `mlx/include`.
pub fn wheel() -> PathBuf {
    mlx().join("wheel")
}

/// Downloaded models.
pub fn models() -> PathBuf {
    root().join("target/models")
}

/// Python environments by name.
pub fn venv(name: &str) -> PathBuf {
    root().join("target/venv").join(name)
}
