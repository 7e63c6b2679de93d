//! A model directory: which of its files hold weights, and what they say together.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

use serde_json::Value;

use super::mapping::{open_regular, refused};
use super::raw::RawTensor;
use super::safetensors;
use crate::error::{Error, Result, bail, err};

const INDEX: &str = "model.safetensors.index.json";
/// An index of a million tensors is a tenth of this.
const MAX_INDEX: u64 = 1 << 30;

/// All tensors of a model directory.
///
/// With an index, its shards are read and every tensor it lists must be there; otherwise `model*.safetensors`.
pub(super) fn open(directory: &Path) -> Result<BTreeMap<String, RawTensor>> {
    if !directory.is_dir() {
        match directory.exists() {
            true => bail!(InvalidArgument, "`{}` is a file; give the directory that holds it", directory.display()),
            false => bail!(NotFound, "there is no directory `{}`", directory.display()),
        }
    }
    let index_path = directory.join(INDEX);
    if index_path.exists() {
        let in_index = |e: Error| e.context(index_path.display());
        let index = read_index(&index_path).map_err(in_index)?;
        let tensors = open_shards(directory, &listed(directory, &index).map_err(in_index)?)?;
        check_listed(directory, &index, &tensors).map_err(in_index)?;
        Ok(tensors)
    } else {
        open_shards(directory, &shards(directory)?)
    }
}

/// Tensor name to file name, from `weight_map`.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let file = open_regular(path)?;
    let mut text = Vec::new();
    file.take(MAX_INDEX + 1).read_to_end(&mut text).map_err(|e| refused(path, &e))?;
    if text.len() as u64 > MAX_INDEX {
        bail!(Corrupt, "larger than {MAX_INDEX} bytes");
    }
    let index: Value = serde_json::from_slice(&text).map_err(|e| err!(Corrupt, "not valid JSON: {e}"))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| err!(Corrupt, "`weight_map` is missing or not an object"))?;
    map.iter()
        .map(|(tensor, file)| match file.as_str() {
            Some(file) if stays_inside(file) => Ok((tensor.clone(), file.to_owned())),
            Some(file) => bail!(
                Corrupt,
                "tensor `{tensor}` is said to be in {file:?}, which may lie outside the model's directory; only plain \
                 names of files inside it are followed"
            ),
            None => bail!(Corrupt, "the file of tensor `{tensor}` is not a string"),
        })
        .collect()
}

/// Whether a relative name can only lead into the directory. Links inside the directory are the user's own and are
/// followed: the Hugging Face cache is made of them.
fn stays_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    !name.contains(['\\', '\0', ':']) && parts.peek().is_some() && parts.all(|c| matches!(c, Component::Normal(_)))
}

/// The files that an index names, all of which must be there.
fn listed(directory: &Path, index: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let names: BTreeSet<&str> = index.values().map(String::as_str).collect();
    let missing: Vec<&str> = names.iter().copied().filter(|n| !directory.join(n).exists()).collect();
    if !missing.is_empty() {
        bail!(
            NotFound,
            "{} of {} weight files are missing: {}; download the model again",
            missing.len(),
            names.len(),
            some_of(&missing)
        );
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Refuses an index that says of a tensor what its files do not.
fn check_listed(
    directory: &Path,
    index: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, RawTensor>,
) -> Result<()> {
    for (tensor, file) in index {
        match tensors.get(tensor) {
            Some(found) if found.path() == directory.join(file) => {}
            Some(found) => bail!(
                Corrupt,
                "tensor `{tensor}` is said to be in `{file}`, but is in `{}`",
                found.path().file_name().unwrap_or_default().display()
            ),
            None => bail!(Corrupt, "tensor `{tensor}` is said to be in `{file}`, which does not have it"),
        }
    }
    Ok(())
}

/// The files `model*.safetensors` in order of their names.
fn shards(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).map_err(|e| refused(directory, &e))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let (weights, others): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|n| n.starts_with("model") && n.ends_with(".safetensors"));
    if !weights.is_empty() {
        return Ok(weights);
    }
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let gguf: Vec<&str> = others.iter().copied().filter(|n| n.ends_with(".gguf")).collect();
    let hint = if !gguf.is_empty() {
        format!("it holds {}: give the path of that file", some_of(&gguf))
    } else if others.iter().any(|n| n.ends_with(".bin") || n.ends_with(".pth") || n.ends_with(".pt")) {
        "its pickled PyTorch weights are not read, since that would run their code; convert them to safetensors".into()
    } else if others.is_empty() {
        "it is empty".into()
    } else {
        format!("it holds {}", some_of(&others))
    };
    bail!(NotFound, "no `model*.safetensors` in `{}`: {hint}", directory.display())
}

fn open_shards(directory: &Path, names: &[String]) -> Result<BTreeMap<String, RawTensor>> {
    let mut all: BTreeMap<String, RawTensor> = BTreeMap::new();
    for file in names {
        for (name, tensor) in safetensors::open(&directory.join(file))? {
            if let Some(other) = all.get(&name) {
                bail!(
                    Corrupt,
                    "tensor `{name}` is in both `{}` and `{file}` of `{}`",
                    other.path().file_name().unwrap_or_default().display(),
                    directory.display()
                );
            }
            all.insert(name, tensor);
        }
    }
    Ok(all)
}

/// The first few of many names.
fn some_of(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(4).map(|n| format!("`{n}`")).collect();
    let more = names.len().saturating_sub(shown.len());
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

#[cfg(test)]
mod tests;
