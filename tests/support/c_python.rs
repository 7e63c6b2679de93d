//! Writes the Python tables from the parsed doors: `_abi.py` and its stub.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::c_doors::{Doors, Kind, Member};

/// The text of `_abi.py`.
pub fn module(doors: &Doors) -> String {
    let table = Table::new(doors);
    let mut definitions = String::new();
    for (name, value) in numbers(doors) {
        writeln!(definitions, "{name} = {}", python_number(value)).unwrap();
    }
    definitions += "\n# What a status is called.\nSTATUS = {\n";
    for (name, value) in statuses(doors) {
        writeln!(definitions, "    {value}: \"{name}\",").unwrap();
    }
    definitions += "}\n";
    for definition in table.in_order() {
        match definition {
            Definition::Alias(name, kind) => writeln!(definitions, "\n\n{name} = {}", table.expression(kind)).unwrap(),
            Definition::Struct(name, fields) => {
                write!(definitions, "\n\nclass {name}(Structure):\n    _fields_ = [\n").unwrap();
                for (field, kind) in fields {
                    writeln!(definitions, "        (\"{field}\", {}),", table.expression(kind)).unwrap();
                }
                definitions += "    ]\n";
            }
        }
    }
    definitions += "\n\n# Every exported function: what it returns and what it takes.\nFUNCTIONS = {\n";
    for (name, arguments, result) in &doors.functions {
        let result = result.as_ref().map_or("None".to_owned(), |k| table.expression(k));
        let arguments: Vec<_> = arguments.iter().map(|(_, k)| table.expression(k)).collect();
        writeln!(definitions, "    \"{name}\": ({result}, [{}]),", arguments.join(", ")).unwrap();
    }
    definitions += "}\n\n\ndef declare(library):\n    \"\"\"Tells ctypes the signature of every function.\"\"\"\n";
    definitions += "    for name, (result, arguments) in FUNCTIONS.items():\n";
    definitions += "        function = getattr(library, name)\n";
    definitions += "        function.restype = result\n        function.argtypes = arguments\n";

    let mut text = String::from("\"\"\"The C ABI for ctypes. Generated from src/ffi; do not edit.\"\"\"\n\n");
    text += "from ctypes import (\n";
    for name in used_names(&definitions) {
        writeln!(text, "    {name},").unwrap();
    }
    text + ")\n\n" + &definitions
}

/// The text of `_abi.pyi`.
pub fn stub(doors: &Doors) -> String {
    let mut text = String::from("# Generated from src/ffi; do not edit.\n\n");
    text += "from ctypes import CDLL, Structure\nfrom typing import Any, Final\n\n";
    for (name, _) in numbers(doors) {
        writeln!(text, "{name}: Final[int]").unwrap();
    }
    text += "\nSTATUS: Final[dict[int, str]]\n\n";
    for (name, _) in &doors.aliases {
        writeln!(text, "{name}: Any").unwrap();
    }
    for (name, fields) in &doors.structs {
        write!(text, "\nclass {name}(Structure):\n").unwrap();
        for (field, kind) in fields {
            writeln!(text, "    {field}: {}", python_type(kind)).unwrap();
        }
    }
    text + "\nFUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]]\n\ndef declare(library: CDLL) -> None: ...\n"
}

fn numbers(doors: &Doors) -> impl Iterator<Item = (&str, i128)> {
    let constants = doors.constants.iter();
    constants.chain(doors.enums.iter().flat_map(|(_, all)| all)).map(|(n, v)| (n.as_str(), *v))
}

fn python_number(value: i128) -> String {
    if value == i128::from(i64::MIN) { "-(2**63)".to_owned() } else { value.to_string() }
}

fn statuses(doors: &Doors) -> Vec<(&str, i128)> {
    let (_, all) = doors.enums.iter().find(|(name, _)| name == "mlxterp_status").expect("the status enum");
    all.iter().map(|(name, value)| (name.strip_prefix("MLXTERP_STATUS_").unwrap(), *value)).collect()
}

/// What ctypes gives for a field that is read.
fn python_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Pointer { to, .. } => match &**to {
            Kind::Named(name) if name == "c_char" => "bytes | None",
            Kind::Named(name) if name == "c_void" || name.starts_with("mlxterp_") => "int | None",
            _ => "Any",
        },
        Kind::Named(name) if name == "f64" => "float",
        Kind::Named(name) if name == "bool" => "bool",
        Kind::Named(name) if name.ends_with("_fn") => "Any",
        Kind::Named(_) => "int",
        Kind::Function { .. } => "Any",
    }
}

const CTYPES: [&str; 16] = [
    "CFUNCTYPE",
    "POINTER",
    "Structure",
    "c_bool",
    "c_char_p",
    "c_double",
    "c_float",
    "c_int32",
    "c_int64",
    "c_int8",
    "c_size_t",
    "c_uint16",
    "c_uint32",
    "c_uint64",
    "c_uint8",
    "c_void_p",
];

fn used_names(text: &str) -> BTreeSet<&str> {
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    CTYPES.into_iter().filter(|name| words.contains(name)).collect()
}

enum Definition<'a> {
    Alias(&'a str, &'a Kind),
    Struct(&'a str, &'a [Member]),
}

struct Table<'a> {
    doors: &'a Doors,
}

impl<'a> Table<'a> {
    fn new(doors: &'a Doors) -> Self {
        Self { doors }
    }

    /// A type as ctypes writes it. Handles are plain addresses; text that the caller must free is one too, since
    /// `c_char_p` would copy it and lose the address.
    fn expression(&self, kind: &Kind) -> String {
        match kind {
            Kind::Named(name) => self.named(name),
            Kind::Function { arguments, result } => {
                let result = result.as_ref().map_or("None".to_owned(), |k| self.expression(k));
                let arguments = arguments.iter().map(|k| self.expression(k));
                format!("CFUNCTYPE({})", [result].into_iter().chain(arguments).collect::<Vec<_>>().join(", "))
            }
            Kind::Pointer { constant, to } => match &**to {
                Kind::Named(name) if name == "c_char" => if *constant { "c_char_p" } else { "c_void_p" }.to_owned(),
                Kind::Named(name) if name == "c_void" || self.doors.handles.contains(name) => "c_void_p".to_owned(),
                to => format!("POINTER({})", self.expression(to)),
            },
        }
    }

    fn named(&self, name: &str) -> String {
        let plain = match name {
            "bool" => "c_bool",
            "f32" => "c_float",
            "f64" => "c_double",
            "i8" => "c_int8",
            "i32" => "c_int32",
            "i64" => "c_int64",
            "u8" => "c_uint8",
            "u16" => "c_uint16",
            "u32" => "c_uint32",
            "u64" => "c_uint64",
            "usize" => "c_size_t",
            // C's enums are ints.
            _ if self.doors.enums.iter().any(|(e, _)| e == name) => "c_int32",
            _ if self.names().any(|n| n == name) => name,
            _ => panic!("no C type for the Rust type {name}"),
        };
        plain.to_owned()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.doors.aliases.iter().map(|(name, _)| name.as_str());
        aliases.chain(self.doors.structs.iter().map(|(name, _)| name.as_str()))
    }

    /// Aliases and structs, each after what it uses.
    fn in_order(&self) -> Vec<Definition<'a>> {
        let aliases = self.doors.aliases.iter().map(|(name, kind)| Definition::Alias(name, kind));
        let structs = self.doors.structs.iter().map(|(name, fields)| Definition::Struct(name, fields));
        let mut waiting: Vec<_> = aliases.chain(structs).collect();
        let mut ordered = Vec::new();
        while !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(Definition::name).collect();
            let ready = waiting.iter().position(|d| !names.iter().any(|n| *n != d.name() && d.uses(n)));
            ordered.push(waiting.remove(ready.expect("definitions that do not need each other")));
        }
        ordered
    }
}

impl<'a> Definition<'a> {
    fn name(&self) -> &'a str {
        match self {
            Definition::Alias(name, _) | Definition::Struct(name, _) => name,
        }
    }

    fn uses(&self, name: &str) -> bool {
        match self {
            Definition::Alias(_, kind) => mentions(kind, name),
            Definition::Struct(_, fields) => fields.iter().any(|(_, kind)| mentions(kind, name)),
        }
    }
}

fn mentions(kind: &Kind, name: &str) -> bool {
    match kind {
        Kind::Named(own) => own == name,
        Kind::Pointer { to, .. } => mentions(to, name),
        Kind::Function { arguments, result } => {
            arguments.iter().chain(result.as_deref()).any(|inner| mentions(inner, name))
        }
    }
}
