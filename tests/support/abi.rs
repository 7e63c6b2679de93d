//! What a compiled program relies on stays: `tests/fixtures/abi/N.txt` has the doors of interface number N. The header of
//! its first day, `N.h`, and a program of that day, `N.c`, are compiled and run by `tests/c_programs.rs`.
//!
//! What was added is written into the list by `BLESS=1`. Anything else needs a new `MLXTERP_ABI_VERSION`, whose list
//! and header are then begun with `BLESS=1`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::c_build::root;
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

/// What was added to what an interface number promised (nothing yet, if it is new); an error, with the broken promises, if
/// anything else changed.
fn judge(lists: impl Fn(i128) -> BTreeSet<String>, doors: &Doors) -> Result<Vec<String>, String> {
    let (promised, now) = (lists(version(doors)), facts(doors));
    let broken: Vec<&str> = promised.difference(&now).map(String::as_str).collect();
    if broken.is_empty() {
        return Ok(now.difference(&promised).cloned().collect());
    }
    Err(format!("compiled programs rely on this: raise MLXTERP_ABI_VERSION, or put it back:\n{}", broken.join("\n")))
}

fn promised(version: i128) -> BTreeSet<String> {
    fs::read_to_string(file(version, "txt")).unwrap_or_default().lines().map(String::from).collect()
}

#[test]
fn nothing_that_was_promised_is_gone_or_changed() {
    let doors = c_doors::read(root());
    let path = file(version(&doors), "txt");
    let new = judge(promised, &doors).unwrap_or_else(|broken| panic!("{broken}"));
    if blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, facts(&doors).iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
        let header = file(version(&doors), "h");
        if !header.exists() {
            fs::copy(root().join("include/mlxterp.h"), header).unwrap();
        }
        return;
    }
    assert!(
        new.is_empty(),
        "{} lacks what was added: run `BLESS=1 cargo test --test generated`: {new:?}",
        path.display()
    );
}

/// A symbol, a signature, a number or a struct that changed is refused under the same number and accepted under a new one.
#[test]
fn a_change_without_a_new_number_is_refused() {
    let doors = || c_doors::read(root());
    let today = facts(&doors());
    let lists = |n: i128| if n == version(&doors()) { today.clone() } else { BTreeSet::new() };
    assert_eq!(judge(lists, &doors()), Ok(vec![]));

    let changes: [(&str, fn(&mut Doors)); 5] = [
        ("fn mlxterp_array_eval(", |d| d.functions.retain(|(name, ..)| name != "mlxterp_array_eval")),
        ("fn mlxterp_trace_read(", |d| {
            let read = d.functions.iter_mut().find(|(name, ..)| name == "mlxterp_trace_read").unwrap();
            read.1.swap(0, 1);
        }),
        ("field mlxterp_trace_options 01 ", |d| {
            let options = d.structs.iter_mut().find(|(name, _)| name == "mlxterp_trace_options").unwrap();
            options.1.remove(1);
        }),
        ("field mlxterp_event 02 step: usize", |d| {
            let event = d.structs.iter_mut().find(|(name, _)| name == "mlxterp_event").unwrap();
            event.1[2].1 = Kind::Named("u32".into());
        }),
        ("enumerator MLXTERP_STATUS_SHAPE = 8", |d| {
            let mut all = d.enums.iter_mut().flat_map(|(_, all)| all);
            all.find(|(name, _)| name == "MLXTERP_STATUS_SHAPE").unwrap().1 = 80;
        }),
    ];
    for (fact, change) in changes {
        let mut changed = doors();
        change(&mut changed);
        let refusal = judge(lists, &changed).expect_err(fact);
        assert!(refusal.contains(fact) && refusal.contains("raise MLXTERP_ABI_VERSION"), "{fact}: {refusal}");
        let number = changed.constants.iter_mut().find(|(name, _)| name == "MLXTERP_ABI_VERSION").unwrap();
        number.1 += 1;
        assert!(judge(lists, &changed).is_ok_and(|new| !new.is_empty()), "{fact}: refused under a new number too");
    }

    // What is added is no change to a compiled program.
    let mut grown = doors();
    let door = grown.functions[0].clone();
    grown.functions.push(("mlxterp_new".into(), door.1, door.2));
    let options = grown.structs.iter_mut().find(|(name, _)| name == "mlxterp_trace_options").unwrap();
    options.1.push(("more".into(), Kind::Named("usize".into())));
    assert_eq!(judge(lists, &grown).unwrap().len(), 2);
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
