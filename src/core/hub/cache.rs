//! A snapshot that an earlier download left in the cache, by this library or by any other that shares the layout.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use super::select::{self, INDEX};
use super::settings::Settings;
use super::{HubId, ModelFiles};
use crate::error::{Result, err};

/// The files of `id`, if the cache holds all of them.
pub(super) fn find(id: &HubId, settings: &Settings) -> Result<Option<ModelFiles>> {
    let repository = settings.cache_dir.join(repo(id, &settings.revision).folder_name());
    let commit = match std::fs::read_to_string(repository.join("refs").join(&settings.revision)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => settings.revision.clone(),
    };
    if !is_commit(&commit) {
        return Ok(None);
    }
    let snapshot = Cache::new(settings.cache_dir.clone()).repo(repo(id, &commit)).pointer_path(&commit);
    match &id.gguf {
        Some(file) => Ok(Some(snapshot.join(file)).filter(|path| path.is_file()).map(ModelFiles::Gguf)),
        None => Ok(is_complete(&snapshot)?.then_some(ModelFiles::Directory(snapshot))),
    }
}

/// The repository at a revision, as hf-hub names it.
pub(super) fn repo(id: &HubId, revision: &str) -> Repo {
    Repo::with_revision(id.repository.clone(), RepoType::Model, revision.to_owned())
}

/// Whether `text` can be a commit's hash; it becomes part of a path, so nothing else will do.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a snapshot holds a config and all weights. An interrupted download leaves fewer shards than the index lists.
fn is_complete(snapshot: &Path) -> Result<bool> {
    if !snapshot.join("config.json").is_file() {
        return Ok(false);
    }
    let index = snapshot.join(INDEX);
    if index.is_file() {
        let shards = shards(&index).map_err(|e| e.context(index.display()))?;
        return Ok(!shards.is_empty() && shards.iter().all(|shard| snapshot.join(shard).is_file()));
    }
    let files: Vec<PathBuf> = std::fs::read_dir(snapshot)
        .map_err(|e| err!(Io, "{}: {e}", snapshot.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // A link whose target is gone is no file.
    Ok(files.iter().any(|f| f.is_file() && f.file_name().and_then(|n| n.to_str()).is_some_and(select::is_weights)))
}

fn shards(index: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(index).map_err(|e| err!(Io, "{e}"))?;
    let index: Value = serde_json::from_slice(&bytes).map_err(|e| err!(Corrupt, "{e}"))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| err!(Corrupt, "there is no object `weight_map`"))?;
    Ok(map.values().filter_map(Value::as_str).map(str::to_owned).collect())
}
