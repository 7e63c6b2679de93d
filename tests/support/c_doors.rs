//! Reads the doors of the C ABI out of `src/ffi`: what the Python table and the export list are written from.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};

use syn::{Expr, Fields, FnArg, Item, Lit, Pat, ReturnType, Type};

/// The files of the doors, in the order in which the header tells of them.
const FILES: [&str; 15] = [
    "library",
    "model",
    "own",
    "opaque",
    "batch",
    "cache",
    "trace",
    "intervention",
    "condition",
    "generation",
    "array",
    "array_math",
    "array_ops",
    "tool",
    "result",
];

/// A C type, as far as the doors use them.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A Rust name: `u32`, `c_char`, `mlxterp_model`.
    Named(String),
    /// A pointer, and whether to something constant.
    Pointer { constant: bool, to: Box<Kind> },
    /// A function pointer that may be NULL.
    Function { arguments: Vec<Kind>, result: Option<Box<Kind>> },
}

/// A name and its type: a field, a parameter.
pub type Member = (String, Kind);

/// Everything that `src/ffi` says to C.
#[derive(Debug, Default)]
pub struct Doors {
    pub constants: Vec<(String, i128)>,
    /// Each with its enumerators.
    pub enums: Vec<(String, Vec<(String, i128)>)>,
    /// `repr(C)` structs.
    pub structs: Vec<(String, Vec<Member>)>,
    /// Types that only go out behind a pointer.
    pub handles: Vec<String>,
    pub aliases: Vec<Member>,
    pub functions: Vec<(String, Vec<Member>, Option<Kind>)>,
}

/// The sources of the doors; a file in the folder that is not listed and exports something is an error.
pub fn sources(root: &Path) -> Vec<PathBuf> {
    let folder = root.join("src/ffi");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !FILES.contains(&name.as_str()) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("no_mangle"), "{} has a door: list it in tests/support/c_doors.rs", path.display());
        }
    }
    FILES.iter().map(|f| folder.join(format!("{f}.rs"))).collect()
}

/// Parses all doors.
pub fn read(root: &Path) -> Doors {
    let mut doors = Doors::default();
    for path in sources(root) {
        let text = fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.items.iter().for_each(|item| doors.add(item));
    }
    doors
}

impl Doors {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Const(c) if is_public(&c.vis) => self.constants.push((c.ident.to_string(), number(&c.expr))),
            Item::Enum(e) if is_public(&e.vis) => {
                let value =
                    |v: &syn::Variant| number(&v.discriminant.as_ref().expect("a number for each enumerator").1);
                let all = e.variants.iter().map(|v| (v.ident.to_string(), value(v))).collect();
                self.enums.push((e.ident.to_string(), all));
            }
            Item::Struct(s) if is_public(&s.vis) => match &s.fields {
                Fields::Named(fields) if has(&s.attrs, "repr") => {
                    let member = |f: &syn::Field| (f.ident.as_ref().unwrap().to_string(), kind(&f.ty));
                    self.structs.push((s.ident.to_string(), fields.named.iter().map(member).collect()));
                }
                _ => self.handles.push(s.ident.to_string()),
            },
            Item::Type(t) if is_public(&t.vis) => self.aliases.push((t.ident.to_string(), kind(&t.ty))),
            Item::Fn(f) if has(&f.attrs, "no_mangle") => {
                let parameter = |a: &FnArg| match a {
                    FnArg::Typed(a) => match &*a.pat {
                        Pat::Ident(name) => (name.ident.to_string(), kind(&a.ty)),
                        other => panic!("a parameter of {} has no name: {other:?}", f.sig.ident),
                    },
                    FnArg::Receiver(_) => panic!("{} takes self", f.sig.ident),
                };
                let arguments = f.sig.inputs.iter().map(parameter).collect();
                self.functions.push((f.sig.ident.to_string(), arguments, result(&f.sig.output)));
            }
            _ => {}
        }
    }
}

fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

/// Whether an attribute is there, also inside `unsafe(…)`.
fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    attributes.iter().any(|a| match &a.meta {
        syn::Meta::List(list) if list.path.is_ident("unsafe") => list.tokens.to_string() == name,
        meta => meta.path().is_ident(name),
    })
}

fn number(expression: &Expr) -> i128 {
    match expression {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Int(n) => n.base10_parse().unwrap(),
            other => panic!("{other:?} is no whole number"),
        },
        Expr::Path(path) if path.path.segments.iter().map(|s| s.ident.to_string()).eq(["i64", "MIN"]) => {
            i128::from(i64::MIN)
        }
        other => panic!("a constant that this test cannot read: {other:?}"),
    }
}

fn result(output: &ReturnType) -> Option<Kind> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, t) => Some(kind(t)),
    }
}

fn kind(t: &Type) -> Kind {
    match t {
        Type::Ptr(p) => Kind::Pointer { constant: p.const_token.is_some(), to: Box::new(kind(&p.elem)) },
        Type::BareFn(f) => Kind::Function {
            arguments: f.inputs.iter().map(|a| kind(&a.ty)).collect(),
            result: result(&f.output).map(Box::new),
        },
        Type::Path(path) => {
            let last = path.path.segments.last().unwrap();
            match &last.arguments {
                syn::PathArguments::AngleBracketed(inner) if last.ident == "Option" => match inner.args.first() {
                    Some(syn::GenericArgument::Type(t @ Type::BareFn(_))) => kind(t),
                    other => panic!("an Option of {other:?} cannot go to C"),
                },
                _ => Kind::Named(last.ident.to_string()),
            }
        }
        other => panic!("a type that cannot go to C: {other:?}"),
    }
}
