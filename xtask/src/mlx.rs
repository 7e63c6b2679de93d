//! MLX itself, as its own wheel brings it.

use anyhow::Result;

use crate::{paths, python, shell};

/// The version that mlx-sys 0.7.0 is written against.
pub const VERSION: &str = "0.32.2";

/// Fetches and unpacks the CPU wheel.
pub fn fetch() -> Result<()> {
    let requirement = format!("mlx-cpu=={VERSION}");
    let dir = paths::wheel();
    shell::once(&dir, &requirement, &format!("MLX {VERSION} for the CPU"), || {
        python::unpack(&python::environment("build")?, &requirement, &dir)
    })
}
