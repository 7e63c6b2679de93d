//! One tour, four languages: C, C++ and Python print the same lines here; `cargo xtask test --only swift` compares Swift.

#[path = "support/c_build.rs"]
mod c_build;

use std::path::PathBuf;
use std::process::Command;

use c_build::{compile, compile_cpp, library, root, succeed, valgrind};

fn model() -> PathBuf {
    let path = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "{} is missing: run `cargo xtask fetch-model`", path.display());
    path
}

fn said(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

fn python() -> PathBuf {
    let own = root().join("target/venv/python/bin/python");
    if own.exists() { own } else { "python3".into() }
}

#[test]
fn the_tour_says_the_same_in_c_cpp_and_python() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let c = said(Command::new(compile(&root().join("examples/c/tour.c"), folders[0].path())).arg(model()));
    let cpp = said(Command::new(compile_cpp(&root().join("examples/cpp/tour.cpp"), folders[1].path())).arg(model()));
    let mut python = Command::new(python());
    python.arg(root().join("examples/python/tour.py")).arg(model());
    python.env("PYTHONPATH", root().join("bindings/python")).env("MLXTERP_LIBRARY", library());
    assert_eq!(c, cpp);
    assert_eq!(c, said(&mut python));

    let lines: Vec<&str> = c.lines().collect();
    assert_eq!(lines[0], "model: 30 layers of width 576, 9 heads");
    assert_eq!(lines[1], "layers.*.mlp: 30 sites");
    assert_eq!(lines[3], "layers.3.attn.pattern: [1, 9, 5, 5], computed: no");
    assert!(lines[6].starts_with("France: ' Paris' "), "{c}");
    assert!(lines[7].starts_with("France, steered to Italy: ' Rome' "), "{c}");
    assert!(lines[8].starts_with("Italy, patched with France: ' Paris' "), "{c}");
    assert_ne!(lines[9].split_once(": "), lines[10].split_once(": "));
    assert_eq!(lines[10].strip_prefix("France, still"), lines[6].strip_prefix("France"));
    assert!(lines[11].starts_with("error: no site 'layers.99.mlp'"), "{c}");
    assert_eq!(lines[12], "hook: refused at layers.3.attn.output");
    assert_eq!(lines[13], "handles left: 0");
}

/// What the C++ header adds to the C interface: ownership, exceptions, conversions.
#[test]
fn the_cpp_header_holds_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile_cpp(&root().join("tests/support/header_only.cpp"), folder.path());
    let output = said(Command::new(&program).arg(root().join("tests/fixtures/tiny/llama")).arg("1000"));
    assert!(output.ends_with("every promise held; handles left: 0\n"), "{output}");
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_cpp() {
    let Some(mut valgrind) = valgrind() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = compile_cpp(&root().join("tests/support/header_only.cpp"), folder.path());
    let output = succeed(valgrind.arg(&program).arg(root().join("tests/fixtures/tiny/llama")).arg("20"));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("handles left: 0\n"));
}
