//! What a compiled program relies on stays: `tests/fixtures/abi/N.txt` has the doors of interface number N, and
//! `tests/fixtures/abi/N.h` the header of its first day, against which an old program is compiled and run here.
//!
//! What was added is written into the list by `BLESS=1`. Anything else needs a new `MLXTERP_ABI_VERSION`, whose list
//! and header are then begun with `BLESS=1`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::c_build::{library, root, succeed};
use crate::c_doors::{self, Doors, Kind};

fn version(doors: &Doors) -> i128 {
    let found = doors.constants.iter().find(|(name, _)| name == "MLXTERP_ABI_VERSION");
    found.expect("the constant of the interface number").1
}

fn file(version: i128, extension: &str) -> PathBuf {
    root().join(format!("tests/fixtures/abi/{version}.{extension}"))
}

fn written(kind: &Kind) -> String {
    match kind {
        Kind::Named(name) => name.clone(),
        Kind::Pointer { constant: true, to } => format!("*const {}", written(to)),
        Kind::Pointer { constant: false, to } => format!("*mut {}", written(to)),
        Kind::Function { arguments, result } => {
            let arguments: Vec<String> = arguments.iter().map(written).collect();
            let result = result.as_ref().map_or(String::new(), |r| format!(" -> {}", written(r)));
            format!("fn({}){result}", arguments.join(", "))
        }
    }
}

/// One line for each thing that a compiled program has built in: a signature, a number, the place and type of a field.
/// Names of parameters are not among them.
fn facts(doors: &Doors) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for (name, value) in &doors.constants {
        facts.insert(format!("const {name} = {value}"));
    }
    for (name, value) in doors.enums.iter().flat_map(|(_, all)| all) {
        facts.insert(format!("enumerator {name} = {value}"));
    }
    for (name, fields) in &doors.structs {
        let grows = fields.first().is_some_and(|(first, _)| first == "struct_size");
        for (place, (field, kind)) in fields.iter().enumerate() {
            facts.insert(format!("field {name} {place:02} {field}: {}", written(kind)));
        }
        if !grows {
            facts.insert(format!("struct {name} has {} fields", fields.len()));
        }
    }
    for handle in &doors.handles {
        facts.insert(format!("handle {handle}"));
    }
    for (name, kind) in &doors.aliases {
        facts.insert(format!("type {name} = {}", written(kind)));
    }
    for (name, arguments, result) in &doors.functions {
        let arguments: Vec<String> = arguments.iter().map(|(_, kind)| written(kind)).collect();
        let result = result.as_ref().map_or(String::new(), |r| format!(" -> {}", written(r)));
        facts.insert(format!("fn {name}({}){result}", arguments.join(", ")));
    }
    facts
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|v| v == "1")
}

#[test]
fn nothing_that_was_promised_is_gone_or_changed() {
    let doors = c_doors::read(root());
    let (now, path) = (facts(&doors), file(version(&doors), "txt"));
    let promised: BTreeSet<String> = fs::read_to_string(&path).unwrap_or_default().lines().map(String::from).collect();
    let broken: Vec<&String> = promised.difference(&now).collect();
    assert!(
        broken.is_empty(),
        "compiled programs rely on this: raise MLXTERP_ABI_VERSION, or put it back:\n{}",
        broken.iter().map(|l| l.as_str()).collect::<Vec<_>>().join("\n")
    );
    if blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, now.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
        let header = file(version(&doors), "h");
        if !header.exists() {
            fs::copy(root().join("include/mlxterp.h"), header).unwrap();
        }
        return;
    }
    let new: Vec<&String> = now.difference(&promised).collect();
    assert!(
        new.is_empty(),
        "{} lacks what was added: run `BLESS=1 cargo test --test generated`: {new:?}",
        path.display()
    );
}

/// The list would be worth nothing if a change did not show in it.
#[test]
fn a_change_of_any_kind_shows() {
    let doors = || c_doors::read(root());
    let before = facts(&doors());
    let shows = |change: fn(&mut Doors)| {
        let mut changed = doors();
        change(&mut changed);
        assert!(before.difference(&facts(&changed)).next().is_some(), "a change went unseen");
    };
    shows(|d| drop(d.functions.remove(0)));
    shows(|d| d.functions[3].2 = None);
    shows(|d| d.structs[0].1.swap(1, 2));
    shows(|d| drop(d.structs[0].1.pop()));
    shows(|d| d.enums[0].1[1].1 = 99);
    shows(|d| d.constants[0].1 += 1);
    shows(|d| {
        let fixed = d.structs.iter_mut().find(|(name, _)| name == "mlxterp_index").unwrap();
        let last = fixed.1.last().unwrap().clone();
        fixed.1.push(last);
    });
}

/// A program that was compiled on the interface's first day runs with today's library.
#[test]
fn an_old_program_runs_with_the_new_library() {
    let header = file(version(&c_doors::read(root())), "h");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&header, folder.path().join("mlxterp.h")).unwrap_or_else(|e| panic!("{}: {e}", header.display()));
    fs::copy(root().join("examples/c/trace.c"), folder.path().join("trace.c")).unwrap();
    let soname = concat!("libmlxterp.so.", env!("CARGO_PKG_VERSION_MAJOR"));
    for name in ["libmlxterp.so", "libmlxterp.dylib", soname] {
        std::os::unix::fs::symlink(library(), folder.path().join(name)).unwrap();
    }
    let program = folder.path().join("trace");
    let mut cc = Command::new("cc");
    // The folder of the source comes first: its header is the old one.
    cc.args(["-std=c99", "-Werror", "-I"]).arg(folder.path()).arg(folder.path().join("trace.c"));
    cc.arg("-o").arg(&program).arg("-L").arg(folder.path()).arg("-lmlxterp");
    cc.arg(format!("-Wl,-rpath,{}", folder.path().display()));
    if cfg!(target_os = "linux") {
        cc.arg("-Wl,--allow-shlib-undefined");
    }
    succeed(&mut cc);
    let model = root().join("tests/fixtures/tiny/llama");
    let output = succeed(Command::new(&program).arg(model).args(["--tokens", "3", "7", "11", "20"]));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("live handles: 0\n"));
}
