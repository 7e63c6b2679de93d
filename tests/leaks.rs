//! A thousand traces leave nothing behind: the steps of the tour on a tiny model in C, C++ and Python, plain and under
//! valgrind. Swift counts its own in `swift/Tests/MLXTerpTests/LeakTests.swift`.

#[path = "support/c_build.rs"]
mod c_build;

use std::path::PathBuf;
use std::process::Command;

use c_build::{compile, compile_cpp, library, root, succeed, valgrind};

/// Pages that the allocators keep come and go; a leak of one float a trace and layer would show.
const NOISE: usize = 1024;

/// What a program says on its way.
#[derive(Debug)]
struct Report {
    /// Bytes that MLX held after a fifth of the traces and after all of them.
    held: [usize; 2],
    /// The process's resident memory then, in kB.
    resident: [usize; 2],
    handles: usize,
}

fn report(command: &mut Command) -> Report {
    let said =
        String::from_utf8(succeed(command.arg(root().join("tests/fixtures/tiny/llama")).arg("1000")).stdout).unwrap();
    let numbers = |line: &str| -> Vec<usize> {
        line.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect()
    };
    let lines: Vec<Vec<usize>> = said.lines().map(numbers).collect();
    assert_eq!([lines[0][0], lines[1][0], lines.len()], [200, 1000, 3], "{said}");
    Report { held: [lines[0][1], lines[1][1]], resident: [lines[0][2], lines[1][2]], handles: lines[2][0] }
}

fn leaves_nothing(language: &str, command: &mut Command) {
    let report = report(command);
    println!("{language}: {report:?}");
    assert_eq!(report.handles, 0, "{language}: {report:?}");
    assert_eq!(report.held[0], report.held[1], "{language}: {report:?}");
    assert!(report.resident[1] <= report.resident[0] + NOISE, "{language}: {report:?}");
}

fn c() -> (PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (compile(&root().join("tests/support/many_traces.c"), folder.path()), folder)
}

fn cpp() -> (PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (compile_cpp(&root().join("tests/support/many_traces.cpp"), folder.path()), folder)
}

#[test]
fn a_thousand_traces_in_c_leave_nothing() {
    let (program, _folder) = c();
    leaves_nothing("C", &mut Command::new(program));
}

#[test]
fn a_thousand_traces_in_cpp_leave_nothing() {
    let (program, _folder) = cpp();
    leaves_nothing("C++", &mut Command::new(program));
}

#[test]
fn a_thousand_traces_in_python_leave_nothing() {
    let own = root().join("target/venv/python/bin/python");
    let mut python = Command::new(if own.exists() { own } else { "python3".into() });
    python.arg(root().join("tests/support/many_traces.py"));
    python.env("PYTHONPATH", root().join("bindings/python")).env("MLXTERP_LIBRARY", library());
    leaves_nothing("Python", &mut python);
}

/// Valgrind fails the program on any error and on any block that nothing leads to. Its own bookkeeping is resident too, so
/// only MLX's memory is compared.
fn is_clean(language: &str, program: (PathBuf, tempfile::TempDir)) {
    let Some(mut valgrind) = valgrind() else { return };
    let report = report(valgrind.arg(&program.0));
    assert_eq!((report.handles, report.held[0]), (0, report.held[1]), "{language}: {report:?}");
}

#[test]
fn valgrind_is_content_with_a_thousand_traces_in_c() {
    is_clean("C", c());
}

#[test]
fn valgrind_is_content_with_a_thousand_traces_in_cpp() {
    is_clean("C++", cpp());
}
