//! From what a user names (a directory, a `.gguf` file, a Hugging Face id) to files on this machine.
//!
//! The hub is spoken to through `hf-hub` 0.5 over ureq and rustls. Its 1.0 cannot be had without an async runtime,
//! the Xet client and a second TLS library (236 crates where this one takes 58).

mod cache;
mod errors;
mod fetch;
mod select;
mod settings;

use std::path::{Path, PathBuf};

use settings::Settings;

use crate::error::{Result, bail, err};

/// Where and how to look for a model on the hub; every `None` leaves the choice to the environment.
#[derive(Clone, Default)]
pub struct HubOptions {
    /// Branch, tag or commit; `main` by default.
    pub revision: Option<String>,
    /// Access token. By default `HF_TOKEN`, else the file that `hf auth login` writes.
    pub token: Option<String>,
    /// The cache directory. By default `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`.
    pub cache_dir: Option<PathBuf>,
    /// Whether to stay off the network. By default `HF_HUB_OFFLINE` decides.
    pub offline: Option<bool>,
    /// Address of the hub. By default `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: Option<String>,
}

impl std::fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token must not end up in a log.
        f.debug_struct("HubOptions")
            .field("revision", &self.revision)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .finish()
    }
}

/// How far a download has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The file being fetched.
    pub file: String,
    /// Bytes of it that have arrived.
    pub file_done: u64,
    /// Its size in bytes.
    pub file_total: u64,
    /// Bytes of all files that are here.
    pub done: u64,
    /// Bytes of all files together.
    pub total: u64,
}

/// Told how far a download has come; false cancels it.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// A model's files on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFiles {
    /// A directory with config.json and safetensors.
    Directory(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

/// Finds `source`: a directory, a `.gguf` file, `org/name` on the hub or one GGUF file there, `org/name/file.gguf`.
/// What exists on this machine goes before the hub.
pub fn resolve(source: &str, options: &HubOptions, progress: Option<OnProgress<'_>>) -> Result<ModelFiles> {
    let path = Path::new(source);
    if path.is_dir() {
        return Ok(ModelFiles::Directory(path.to_owned()));
    }
    if path.is_file() {
        return local_file(path);
    }
    let Some(id) = HubId::parse(source) else {
        bail!(
            NotFound,
            "{source:?}: there is no such directory or file, and it is no Hugging Face id, which looks like org/name \
             or org/name/file.gguf"
        );
    };
    let settings = Settings::new(options, &|name| std::env::var_os(name))?;
    if settings.offline {
        return cache::find(&id, &settings)?.ok_or_else(|| not_cached(&id, &settings));
    }
    fetch::snapshot(&id, &settings, progress)
}

fn local_file(path: &Path) -> Result<ModelFiles> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return Ok(ModelFiles::Gguf(path.to_owned()));
    }
    let hint = match path.parent().filter(|parent| parent.join("config.json").is_file()) {
        Some(parent) => format!("name its directory, {}", parent.display()),
        None => "name a directory with config.json and safetensors".into(),
    };
    bail!(Unsupported, "{}: of single files only .gguf can be loaded; {hint}", path.display())
}

fn not_cached(id: &HubId, settings: &Settings) -> crate::error::Error {
    err!(
        NotFound,
        "{id} (revision {}) is not complete in the cache {}, and the network is off: load it once with the network on \
         (unset HF_HUB_OFFLINE, or the offline option), or give the path of a local copy",
        settings.revision,
        settings.cache_dir.display()
    )
}

/// A repository on the hub and, perhaps, one file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HubId {
    repository: String,
    /// Path of a GGUF file inside the repository.
    gguf: Option<String>,
}

impl HubId {
    fn parse(source: &str) -> Option<Self> {
        let parts: Vec<&str> = source.split('/').collect();
        // Names on the hub consist of these characters and begin with none of the punctuation; nor do paths slip through.
        let named = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if parts.len() < 2 || !parts.iter().all(named) {
            return None;
        }
        let repository = parts[..2].join("/");
        match &parts[2..] {
            [] => Some(Self { repository, gguf: None }),
            [.., file] if select::is_gguf(file) => Some(Self { repository, gguf: Some(parts[2..].join("/")) }),
            _ => None,
        }
    }
}

impl std::fmt::Display for HubId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repository)?;
        self.gguf.as_ref().map_or(Ok(()), |file| write!(f, "/{file}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = |s: &str| HubId::parse(s).map(|id| (id.repository, id.gguf));
        assert_eq!(id("org/na.me-1"), Some(("org/na.me-1".into(), None)));
        assert_eq!(id("org/name/q4.gguf"), Some(("org/name".into(), Some("q4.gguf".into()))));
        assert_eq!(id("org/name/sub/Q4.GGUF"), Some(("org/name".into(), Some("sub/Q4.GGUF".into()))));
        for path in
            ["name", "/org/name", "./name", "../x", "org/..", "org/name/", "org/name/file.bin", "a/b/../c.gguf", "~/m"]
        {
            assert_eq!(id(path), None, "{path}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let options = HubOptions { token: Some("hf_secret".into()), ..Default::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
