//! The library as a framework for Swift packages on Apple's platforms. Written from Apple's documentation; never run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{install, paths, shell};

const NAME: &str = "CMLXTerp";

/// Builds `target/CMLXTerp.xcframework`, to be named by `MLXTERP_XCFRAMEWORK`.
pub fn run() -> Result<PathBuf> {
    if !cfg!(target_os = "macos") {
        bail!("frameworks are made on a Mac: here, `cargo xtask install --prefix DIR` and pkg-config");
    }
    let work = paths::root().join("target/xcframework");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let prefix = work.join("prefix");
    install::run(&prefix, None)?;
    let framework = work.join(format!("{NAME}.framework"));
    fill(&framework, &prefix)?;
    let out = paths::root().join(format!("target/{NAME}.xcframework"));
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let mut xcodebuild = Command::new("xcodebuild");
    xcodebuild.args(["-create-xcframework", "-framework"]).arg(&framework).arg("-output").arg(&out);
    shell::run(&mut xcodebuild)?;
    Ok(out)
}

/// The layout of a framework on macOS: versions, and links to the current one.
fn fill(framework: &Path, prefix: &Path) -> Result<()> {
    let version = framework.join("Versions/A");
    for folder in ["Headers", "Modules", "Resources"] {
        fs::create_dir_all(version.join(folder))?;
    }
    let library = version.join(NAME);
    fs::copy(prefix.join("lib").join(install::file_name()), &library)?;
    // MLX looks for its kernels beside the library that it is part of.
    fs::copy(prefix.join("lib/mlx.metallib"), version.join("mlx.metallib"))?;
    fs::copy(prefix.join("include/mlxterp.h"), version.join("Headers/mlxterp.h"))?;
    let map = format!("framework module {NAME} [system] {{\n    header \"mlxterp.h\"\n    export *\n}}\n");
    fs::write(version.join("Modules/module.modulemap"), map)?;
    fs::write(version.join("Resources/Info.plist"), plist())?;
    std::os::unix::fs::symlink("A", framework.join("Versions/Current"))?;
    for name in [NAME, "Headers", "Modules", "Resources"] {
        std::os::unix::fs::symlink(Path::new("Versions/Current").join(name), framework.join(name))?;
    }
    let id = format!("@rpath/{NAME}.framework/Versions/A/{NAME}");
    shell::run(Command::new("install_name_tool").args(["-id", &id]).arg(&library))?;
    // A changed library needs a new signature; "-" is none in particular, an app signs what it embeds.
    let signed = shell::run(Command::new("codesign").args(["--force", "--sign", "-"]).arg(framework));
    signed.context("codesign refused the framework")
}

fn plist() -> String {
    let entries = [
        ("CFBundleExecutable", NAME),
        ("CFBundleIdentifier", "org.mlxterp.CMLXTerp"),
        ("CFBundleName", NAME),
        ("CFBundlePackageType", "FMWK"),
        ("CFBundleShortVersionString", env!("CARGO_PKG_VERSION")),
        ("CFBundleVersion", env!("CARGO_PKG_VERSION")),
    ];
    let body: String = entries.iter().map(|(k, v)| format!("    <key>{k}</key><string>{v}</string>\n")).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\">\n<dict>\n{body}</dict>\n</plist>\n")
}
