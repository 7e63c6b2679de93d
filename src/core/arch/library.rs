//! The descriptions that come with the library.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::description::Description;
use crate::error::{Result, bail, nearest};

const TEXTS: [(&str, &str); 2] =
    [("llama", include_str!("library/llama.arch")), ("smollm3", include_str!("library/smollm3.arch"))];

/// All descriptions by model type. They are part of this library, and its tests read every one.
static BY_TYPE: LazyLock<HashMap<String, Result<Arc<Description>>>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for (name, text) in TEXTS {
        match Description::parse(text, name) {
            Ok(d) => {
                let d = Arc::new(d);
                all.extend(d.model_types().iter().map(|t| (t.clone(), Ok(d.clone()))));
            }
            Err(e) => {
                all.insert(name.to_owned(), Err(e));
            }
        }
    }
    all
});

/// The text of a description of the library, as a start for one's own.
pub fn text(name: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
}

/// Names of the descriptions.
pub fn names() -> Vec<&'static str> {
    TEXTS.iter().map(|(n, _)| *n).collect()
}

/// The model types that have a description, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut types: Vec<&'static str> = BY_TYPE.keys().map(String::as_str).collect();
    types.sort_unstable();
    types
}

/// The description of a `model_type`.
pub fn for_model_type(model_type: &str) -> Result<Arc<Description>> {
    match BY_TYPE.get(model_type) {
        Some(found) => found.clone(),
        None => {
            let types = supported();
            let hint = match nearest(model_type, types.iter().copied(), 1).first() {
                Some(n) => format!("; did you mean '{n}'?"),
                None => String::new(),
            };
            bail!(
                Unsupported,
                "the model_type '{model_type}' has no description{hint} (supported: {}). To add one, pass a description \
                 with the option arch=: a file of 20 to 60 lines, or one line such as 'arch {model_type} from llama' if \
                 it computes as Llama does; docs/architectures.md shows how",
                types.join(", ")
            )
        }
    }
}
