//! The example of an app with a Rust core of its own: built by cargo and swiftc, run, and compared with the tour.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::swift::Toolchain;
use crate::{paths, shell};

const LIBRARY: &str = if cfg!(target_os = "macos") { "liblens_bridge.dylib" } else { "liblens_bridge.so" };

/// Builds the example in `home` and runs it on a model, of which `tour` is what the tour says.
pub fn test(swift: &Toolchain, home: &Path, model: &str, tour: &str) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--quiet", "--package", "lens-bridge"]))?;
    fs::create_dir_all(home)?;
    let built = shell::target_directory()?.join("debug").join(LIBRARY);
    fs::copy(&built, home.join(LIBRARY)).with_context(|| format!("cannot copy {}", built.display()))?;
    let program = home.join("lens");
    compile(swift, home, &program)?;
    let said = shell::output(swift.program(&program, paths::root())?.arg(model))?;
    check(&said, tour)?;
    println!("   the app with a Rust core of its own says what the tour says");
    Ok(())
}

fn compile(swift: &Toolchain, library: &Path, program: &Path) -> Result<()> {
    let here = paths::root().join("examples/swift-bridge/swift");
    let generated = paths::root().join("target/swift-bridge");
    let mut swiftc = swift.program("swiftc", paths::root())?;
    swiftc.arg("-import-objc-header").arg(here.join("bridging-header.h"));
    swiftc.arg(here.join("main.swift"));
    swiftc.arg(generated.join("SwiftBridgeCore.swift")).arg(generated.join("lens-bridge/lens-bridge.swift"));
    swiftc.arg("-L").arg(library).args(["-llens_bridge", "-Xlinker", "-rpath", "-Xlinker"]).arg(library);
    shell::run(swiftc.arg("-o").arg(program))
}

/// The same prompts give the same tokens as in the tour, and each mistake is thrown with its kind.
fn check(said: &str, tour: &str) -> Result<()> {
    let of_tour = |what: &str| tour.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    let plain = of_tour("France").context("the tour has no line for France")?;
    let steered = of_tour("France, steered to Italy").context("the tour has no steered line")?;
    let wanted = [
        format!(": {plain} -> {plain}\n"),
        format!(": {plain} -> {steered}\n"),
        "NotFound: \"/nowhere/at/all\"".into(),
        "UnknownSite: no site 'layers.99.output': the model has 30 layers; did you mean".into(),
        "InvalidArgument: the prompt is empty".into(),
    ];
    if let Some(missing) = wanted.iter().find(|w| !said.contains(w.as_str())) {
        bail!("the example with swift-bridge does not say {missing:?}:\n{said}");
    }
    Ok(())
}
