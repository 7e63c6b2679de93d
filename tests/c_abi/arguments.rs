//! Every fallible door, with every argument spoilt in every way.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;

use mlxterp::core::tensor::DLManagedTensorVersioned;
use mlxterp::ffi::mlxterp_status::*;

use crate::Scene;
use crate::case::{Case, UNTOUCHED, message};
use crate::doors::{self, Doors, Kind};
use crate::table::{Good, table};

/// Doors whose output is an argument of its own kind; `statuses` tests them.
const INITIALISERS: [&str; 8] = [
    "mlxterp_generate_options_init",
    "mlxterp_generate_options_init_sized",
    "mlxterp_model_options_init",
    "mlxterp_model_options_init_sized",
    "mlxterp_tool_inputs_init",
    "mlxterp_tool_inputs_init_sized",
    "mlxterp_trace_options_init",
    "mlxterp_trace_options_init_sized",
];

/// Text that may be NULL.
const OPTIONAL: [&str; 1] = ["mlxterp_model_sites_json"];

fn innermost(kind: &Kind) -> &str {
    match kind {
        Kind::Pointer { to, .. } => innermost(to),
        Kind::Named(name) => name,
        Kind::Function { .. } => "function",
    }
}

/// What a door takes and gives, as far as it can be spoilt.
struct Signature {
    /// Noun, and for arrays which of them.
    inputs: Vec<(String, usize)>,
    /// What the output points to.
    output: Option<String>,
}

fn signature(doors: &Doors, name: &str) -> Signature {
    let (_, arguments, _) = doors.functions.iter().find(|(n, ..)| n == name).unwrap();
    let mut signature = Signature { inputs: Vec::new(), output: None };
    let mut arrays = 0;
    for (argument, kind) in arguments {
        let noun = innermost(kind).to_owned();
        if argument.starts_with("out_") {
            signature.output = Some(noun);
        } else if doors.handles.contains(&noun) || noun == "c_char" {
            let index = if noun == "mlxterp_array" { arrays } else { 0 };
            arrays += usize::from(noun == "mlxterp_array");
            signature.inputs.push((noun, index));
        }
    }
    signature
}

fn read_doors() -> Doors {
    doors::read(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn the_table_has_every_fallible_door() {
    let is_fallible = |result: &Option<Kind>| matches!(result, Some(Kind::Named(name)) if name == "mlxterp_status");
    let all = read_doors().functions.into_iter().filter(|(_, _, result)| is_fallible(result));
    let all: BTreeSet<String> = all.map(|(name, ..)| name).filter(|n| !INITIALISERS.contains(&n.as_str())).collect();
    let tested: BTreeSet<String> = table().into_iter().map(|(name, ..)| name.to_owned()).collect();
    assert_eq!(tested, all);
}

#[test]
fn good_arguments_work() {
    let (scene, doors) = (Scene::new(), read_doors());
    for (name, text, call) in table() {
        let case = Case::new(scene.model, text);
        assert_eq!(call(&case), MLXTERP_STATUS_OK, "{name}: {}", message());
        let Some(noun) = signature(&doors, name).output else { continue };
        assert!(![0, UNTOUCHED].contains(&case.result()), "{name} filled in nothing");
        match (name, noun.as_str()) {
            ("mlxterp_array_to_dlpack", _) => {
                let tensor = case.result() as *mut DLManagedTensorVersioned;
                unsafe { (*tensor).deleter.unwrap()(tensor) };
            }
            // Lent, and a number.
            ("mlxterp_array_data", _) | (_, "usize" | "i64") => {}
            _ => case.free_result(&noun),
        }
    }
}

/// Calls the door with a spoilt case; it must refuse, say why, and null its output.
fn refuses(door: &Good, case: &Case, has_output: bool, wanted: &str, how: &str) {
    let (name, _, call) = door;
    assert_eq!(call(case), MLXTERP_STATUS_INVALID_ARGUMENT, "{name} with {how}: {}", message());
    assert!(message().contains(wanted), "{name} with {how}: {}", message());
    if has_output {
        assert_eq!(case.result(), 0, "{name} with {how} left its output as it was");
    }
}

#[test]
fn spoilt_handles_are_refused() {
    let (scene, doors) = (Scene::new(), read_doors());
    let mut foreign = [0u64; 8];
    for door in table() {
        let signature = signature(&doors, door.0);
        for (noun, index) in signature.inputs.iter().filter(|(noun, _)| noun != "c_char") {
            for how in ["NULL", "a freed handle", "a foreign pointer", "a handle of another type"] {
                let mut case = Case::new(scene.model, door.1);
                let (pointer, wanted) = match how {
                    "NULL" => (null_mut(), "is NULL"),
                    "a freed handle" => (case.freed(noun), "was freed"),
                    "a foreign pointer" => (foreign.as_mut_ptr().cast::<c_void>(), "was never a handle"),
                    _ => (case.of_wrong_type(noun), "handle was given where"),
                };
                case.spoil(noun, *index, pointer);
                refuses(&door, &case, signature.output.is_some(), wanted, &format!("{how} as {noun} {index}"));
            }
        }
    }
}

#[test]
fn spoilt_text_is_refused() {
    let (scene, doors) = (Scene::new(), read_doors());
    let bad = b"caf\xe9\0";
    for door in table() {
        let signature = signature(&doors, door.0);
        if !signature.inputs.iter().any(|(noun, _)| noun == "c_char") {
            continue;
        }
        let mut case = Case::new(scene.model, door.1);
        case.spoil("c_char", 0, bad.as_ptr().cast_mut().cast());
        refuses(&door, &case, signature.output.is_some(), "is not UTF-8 (byte 3)", "bad UTF-8");
        if !OPTIONAL.contains(&door.0) {
            let mut case = Case::new(scene.model, door.1);
            case.spoil("c_char", 0, null_mut());
            refuses(&door, &case, signature.output.is_some(), "is NULL", "NULL text");
        }
    }
}

#[test]
fn a_missing_output_is_refused() {
    let (scene, doors) = (Scene::new(), read_doors());
    for door in table() {
        if signature(&doors, door.0).output.is_some() {
            let mut case = Case::new(scene.model, door.1);
            case.without_output();
            refuses(&door, &case, false, "is NULL: nowhere to put the result", "a NULL output");
        }
    }
}
