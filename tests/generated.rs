//! What is generated from `src/ffi` is what is committed: the C header, the Python tables, and the list of what compiled
//! programs rely on. `BLESS=1` writes them.

#[path = "support/abi.rs"]
mod abi;
#[path = "support/c_build.rs"]
mod c_build;
#[path = "support/c_doors.rs"]
mod c_doors;
#[path = "support/c_header.rs"]
mod c_header;
#[path = "support/c_python.rs"]
mod c_python;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn same(path: &str, generated: &str) {
    let file = root().join(path);
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        fs::write(&file, generated).unwrap();
        return;
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    if let Some(line) = first_difference(&committed, generated) {
        panic!("{path} is out of date from line {line}: run `BLESS=1 cargo test --test generated` and commit it");
    }
}

fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    Some(1 + a.lines().zip(b.lines()).take_while(|(a, b)| a == b).count())
}

#[test]
fn the_header_is_up_to_date() {
    same("include/mlxterp.h", &c_header::header(root()));
}

#[test]
fn the_python_table_is_up_to_date() {
    same("bindings/python/mlxterp/_abi.py", &c_python::module(&c_doors::read(root())));
}

#[test]
fn the_python_stub_is_up_to_date() {
    same("bindings/python/mlxterp/_abi.pyi", &c_python::stub(&c_doors::read(root())));
}

/// Functions that a C text declares: names followed by an opening bracket, outside comments and function pointers.
fn declared(header: &str) -> BTreeSet<String> {
    let code: Vec<&str> = header.lines().filter(|l| !l.trim_start().starts_with(['/', '*', '#'])).collect();
    let code = code.join("\n");
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices('(') {
        let before = &code[..at];
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |i| i + 1);
        if before[start..].starts_with("mlxterp_") {
            names.insert(before[start..].to_owned());
        }
    }
    names
}

#[test]
fn the_header_declares_every_door_and_nothing_else() {
    let doors = c_doors::read(root());
    let written: BTreeSet<String> = doors.functions.iter().map(|(name, ..)| name.clone()).collect();
    assert!(written.len() > 50, "only {} doors were found", written.len());
    assert_eq!(declared(&c_header::header(root())), written);
}

#[test]
fn every_name_carries_the_prefix() {
    let doors = c_doors::read(root());
    let enumerators = doors.enums.iter().flat_map(|(_, all)| all.iter().map(|(name, _)| name));
    let numbers: Vec<&String> = doors.constants.iter().map(|(name, _)| name).chain(enumerators).collect();
    let types = doors.enums.iter().map(|(name, _)| name).chain(doors.structs.iter().map(|(name, _)| name));
    let types = types.chain(&doors.handles).chain(doors.aliases.iter().map(|(name, _)| name));
    let names: Vec<&String> = types.chain(doors.functions.iter().map(|(name, ..)| name)).collect();
    for name in numbers {
        assert!(name.starts_with("MLXTERP_"), "{name}");
    }
    for name in names {
        assert!(name.starts_with("mlxterp_"), "{name}");
    }
}

#[test]
fn outputs_come_last() {
    for (name, arguments, _) in c_doors::read(root()).functions {
        let first_output = arguments.iter().position(|(argument, _)| argument.starts_with("out_"));
        let outputs_end = arguments.iter().skip(first_output.unwrap_or(arguments.len()));
        for (argument, _) in outputs_end {
            assert!(argument.starts_with("out_"), "{name}: {argument} stands behind an output");
        }
    }
}
