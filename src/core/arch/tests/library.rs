use std::collections::BTreeMap;
use std::path::Path;

use super::super::{library, supported};
use super::*;

#[test]
fn the_list_is_the_directory() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/arch/library");
    let file = |e: std::io::Result<std::fs::DirEntry>| {
        let name = e.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".arch").unwrap_or_else(|| panic!("{name} is no description")).to_owned()
    };
    let mut files: Vec<String> = std::fs::read_dir(directory).unwrap().map(file).collect();
    files.sort();
    assert_eq!(library::names(), files);
}

/// Descriptions are read when somebody asks; here every one is.
#[test]
fn every_description_is_read_and_checked() {
    let mut of: BTreeMap<String, &str> = BTreeMap::new();
    for name in library::names() {
        let text = library::text(name).unwrap();
        let d = Description::parse(text, name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(d.name(), name, "the first line of {name}.arch");
        assert_eq!(library::named(name).unwrap().name(), name);
        for t in d.model_types() {
            if let Some(other) = of.insert(t.clone(), name) {
                assert!(t.starts_with('_'), "{name}.arch and {other}.arch both claim '{t}'");
            }
            assert_eq!(supported().contains(&t.as_str()), !t.starts_with('_'), "{t}");
        }
    }
    of.retain(|t, _| !t.starts_with('_'));
    assert_eq!(supported(), of.keys().collect::<Vec<_>>());
    for (t, name) in of {
        assert_eq!(for_model_type(&t).unwrap().name(), name);
    }
}

/// What a model needs to be traced by the short names, wherever it comes from.
#[test]
fn every_description_has_the_common_roles() {
    for t in supported() {
        let d = for_model_type(t).unwrap();
        let roles = d.role_names();
        for role in ["embed", "layer"] {
            assert!(roles.contains(&role), "{}: the role '{role}' is missing, there are {roles:?}", d.name());
        }
    }
}

#[test]
fn an_unsupported_type_names_the_nearest() {
    let e = for_model_type("lama").unwrap_err();
    assert_eq!(e.message(), "the model_type 'lama' has no description (did you mean 'llama'?)");
}
