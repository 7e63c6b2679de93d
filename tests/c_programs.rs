//! The header and the library as C and C++ programs meet them: they compile, link, run, and leave nothing behind.

#[path = "support/c_build.rs"]
mod c_build;
#[path = "support/c_doors.rs"]
mod c_doors;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use c_build::{compile, library, present, root, succeed, valgrind};

const TOKENS: [&str; 5] = ["--tokens", "3", "7", "11", "20"];

fn tiny() -> PathBuf {
    root().join("tests/fixtures/tiny/llama")
}

#[test]
fn the_header_compiles_as_c_and_as_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let twice = "#include \"mlxterp.h\"\n#include \"mlxterp.h\"\nint twice(void);\nint twice(void) { return MLXTERP_INDEX_NONE < 0; }\n";
    let languages =
        [(["gcc", "clang"], "c", ["c99", "c11", "c17"]), (["g++", "clang++"], "cpp", ["c++11", "c++17", "c++20"])];
    let mut compiled = 0;
    for (compilers, suffix, standards) in languages {
        let source = folder.path().join(format!("twice.{suffix}"));
        std::fs::write(&source, twice).unwrap();
        for compiler in compilers.into_iter().filter(|c| present(c)) {
            for standard in standards {
                let mut cc = Command::new(compiler);
                cc.args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]).arg(format!("-std={standard}"));
                succeed(cc.arg("-I").arg(root().join("include")).arg(&source));
                compiled += 1;
            }
        }
    }
    assert!(compiled >= 6, "a C and a C++ compiler are needed: only {compiled} of the combinations could be tried");
}

#[test]
fn the_library_exports_the_doors_and_nothing_else() {
    let flags: &[&str] = if cfg!(target_os = "macos") { &["-gU"] } else { &["-D", "--defined-only"] };
    let output = succeed(Command::new("nm").args(flags).arg(library()));
    let text = String::from_utf8(output.stdout).unwrap();
    let name = |line: &str| line.split_whitespace().last().unwrap().trim_start_matches('_').to_owned();
    let exported: BTreeSet<String> = text.lines().map(name).collect();
    let doors: BTreeSet<String> = c_doors::read(root()).functions.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(exported, doors);
}

fn run(program: &Path, arguments: &[&str]) -> String {
    let output = succeed(Command::new(program).args(arguments));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tour_runs_on_a_tiny_model() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("examples/c/trace.c"), folder.path());
    let model = tiny();
    let said = run(&program, &[&[model.to_str().unwrap()], &TOKENS[..]].concat());
    assert!(said.contains("layers.1.attn.output has shape [1, 4, 24], computed: no"), "{said}");
    assert!(said.contains("status 9: no site 'layers.99.mlp'"), "{said}");
    assert!(said.contains("the hook was called 1 time(s)"), "{said}");
    assert!(said.ends_with("live handles: 0\n"), "{said}");
    // The changes change something: four lists of tokens, no two alike.
    let lists: BTreeSet<&str> = said.split("next token").skip(1).map(|part| part.split_once('\n').unwrap().1).collect();
    assert_eq!(lists.len(), 4, "{said}");
}

#[test]
fn the_tour_runs_on_smollm2() {
    let model = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(model.exists(), "{} is missing: run `cargo xtask setup`", model.display());
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("examples/c/trace.c"), folder.path());
    let said = run(&program, &[model.to_str().unwrap(), "The capital of France is"]);
    assert!(said.contains("layers.3.attn.output has shape [1, 5, 576], computed: no"), "{said}");
    let plain = said.split("next token\n").nth(1).unwrap().lines().next().unwrap();
    assert!(plain.ends_with("' Paris'"), "{said}");
    assert!(said.ends_with("live handles: 0\n"), "{said}");
}

#[test]
fn a_wrong_path_is_a_message_and_not_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("examples/c/trace.c"), folder.path());
    let output = Command::new(&program).args(["/nowhere/at/all", "text"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error 2: ") && said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn a_model_of_ones_own_runs_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("examples/c/own_model.c"), folder.path());
    // relu([1 2], [3 4] times up) = [1 2 0], [3 4 0]; twice that times down, less the sums 3 and 7.
    let expected = "hidden: 1 2 0 3 4 0\ngate.output: 2 4 0 6 8 0\ngate.output.1: 3 7\noutput: 7 15\noutput: 10 22\n\
                    the function was called 1 time(s)\nlive handles: 0\n";
    assert_eq!(run(&program, &[]), expected);
    let Some(mut valgrind) = valgrind() else { return };
    assert_eq!(String::from_utf8(succeed(valgrind.arg(&program)).stdout).unwrap(), expected);
}

#[test]
fn valgrind_finds_no_error_and_no_leak_in_the_tour() {
    let Some(mut valgrind) = valgrind() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("examples/c/trace.c"), folder.path());
    let output = succeed(valgrind.arg(&program).arg(tiny()).args(TOKENS));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("live handles: 0\n"));
}

/// The program and the header of the interface's first day, with the option structs of that day: the library of today
/// writes nothing behind them and computes what mlx-lm computed.
#[test]
fn a_program_of_the_first_day_runs_with_todays_library() {
    let constants = c_doors::read(root()).constants;
    let version = constants.iter().find(|(name, _)| name == "MLXTERP_ABI_VERSION").unwrap().1;
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("h", "mlxterp.h"), ("c", "first_day.c")] {
        let file = root().join(format!("tests/fixtures/abi/{version}.{from}"));
        std::fs::copy(&file, folder.path().join(to)).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    // The folder of the source comes before ours: its header is the old one.
    let program = compile(&folder.path().join("first_day.c"), folder.path());
    let expected = support::Expected::read(&tiny().join("expected.safetensors"));
    let (model, row) = (tiny(), expected.ids("ids")[1].clone());
    let ids: Vec<String> = row.iter().map(u32::to_string).collect();
    let arguments: Vec<&str> = std::iter::once(model.to_str().unwrap()).chain(ids.iter().map(String::as_str)).collect();
    let said = run(&program, &arguments);
    let numbers = |what: &str| -> Vec<f32> {
        let line = said.lines().find_map(|l| l.strip_prefix(what)).unwrap_or_else(|| panic!("no {what}: {said}"));
        line.split_whitespace().map(|n| n.parse().unwrap()).collect()
    };
    let both = expected.get("logits");
    let logits = &both[both.len() / 2..];
    support::assert_close(&numbers("plain"), logits, 1e-5, "plain");
    support::assert_close(&numbers("last"), &logits[logits.len() - 64..], 1e-5, "after a cache");
    assert!(support::difference(&numbers("zeroed"), logits) > 0.01, "the interventions changed nothing");
    assert!(said.ends_with("live handles: 0\n"), "{said}");
}
