//! mlx-c: compiled from the source that the mlx-sys crate carries, against the MLX of the wheel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{mlx, paths, shell};

/// `std::format` for compilers whose standard library lacks it (gcc 12). mlx-c formats sizes and strings with plain
/// `{}` and nothing else.
const FORMAT_SHIM: &str = r#"#pragma once
#if __has_include(<format>)
#include <format>
#endif
#ifndef __cpp_lib_format
#include <sstream>
#include <string>
namespace std {
inline void mlxterp_format_rest(ostringstream& out, const char* text) { out << text; }
template <typename First, typename... Rest>
void mlxterp_format_rest(ostringstream& out, const char* text, const First& first, const Rest&... rest) {
  for (; *text; ++text) {
    if (text[0] == '{' && text[1] == '}') {
      out << first;
      mlxterp_format_rest(out, text + 2, rest...);
      return;
    }
    out << *text;
  }
}
template <typename... Args>
string format(const char* text, const Args&... args) {
  ostringstream out;
  mlxterp_format_rest(out, text, args...);
  return out.str();
}
}
#endif
"#;

/// Where cargo unpacked mlx-c.
pub fn source() -> Result<PathBuf> {
    let text = shell::output(shell::cargo().args(["metadata", "--format-version=1", "--quiet"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let sys = packages.iter().find(|p| p["name"] == "mlx-sys").context("mlx-sys is not among the dependencies")?;
    let manifest = Path::new(sys["manifest_path"].as_str().context("mlx-sys has no manifest path")?);
    Ok(manifest.with_file_name("src").join("mlx-c"))
}

/// Compiles `libmlxc.a` into `target/mlx/mlxc`.
pub fn compile(source: &Path) -> Result<()> {
    let dir = paths::mlx().join("mlxc");
    let key = format!("{} {} {FORMAT_SHIM}", source.display(), mlx::VERSION);
    shell::once(&dir, &key, "mlx-c, compiled (about a minute)", || {
        let shim = dir.join("std_format.h");
        std::fs::write(&shim, FORMAT_SHIM)?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++20")
            .opt_level(2)
            .pic(true)
            .warnings(false)
            .cargo_metadata(false)
            .target(&triple)
            .host(&triple)
            .out_dir(&dir)
            .include(source)
            .include(paths::wheel().join("mlx/include"))
            .flag("-include")
            .flag(shim.to_str().context("the repository's path is not UTF-8")?);
        for entry in std::fs::read_dir(source.join("mlx/c"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "cpp") {
                build.file(path);
            }
        }
        build.try_compile("mlxc").context("mlx-c does not compile")
    })
}
