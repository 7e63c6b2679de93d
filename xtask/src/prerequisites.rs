//! What a machine must have, each with the command that brings it.

use std::process::Command;

use anyhow::{Result, bail};

fn answers(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
}

/// Checks all of them and names every missing one.
pub fn check() -> Result<()> {
    let mut missing = Vec::new();
    if cfg!(target_os = "macos") {
        if !answers("xcrun", &["--find", "metal"]) {
            missing.push("the Metal compiler: install Xcode, then `xcodebuild -downloadComponent MetalToolchain`");
        }
        if !answers("cmake", &["--version"]) {
            missing.push("CMake: `brew install cmake`");
        }
    } else if !answers("c++", &["--version"]) {
        missing.push("a C++ compiler: `apt install g++` (Debian) or `dnf install gcc-c++` (Fedora)");
    }
    if !answers("python3", &["-c", "import sys; sys.exit(sys.version_info < (3, 10))"]) {
        missing.push("Python 3.10 or newer: `apt install python3`");
    } else if !answers("python3", &["-c", "import venv, ensurepip"]) {
        missing.push("Python's venv and pip: `apt install python3-venv python3-pip`");
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks:\n  - {}", missing.join("\n  - "));
}
