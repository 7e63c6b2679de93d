//! What the options leave open, answered by the environment as huggingface_hub answers it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::HubOptions;
use crate::error::{Result, bail, err};

/// Every choice made.
pub(super) struct Settings {
    pub(super) revision: String,
    pub(super) token: Option<String>,
    pub(super) cache_dir: PathBuf,
    pub(super) offline: bool,
    pub(super) endpoint: String,
}

impl Settings {
    /// `env` is the environment; it is handed in so that a test needs not change the process's own.
    pub(super) fn new(options: &HubOptions, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = set("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface")))
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface")));
        let cache_dir = options
            .cache_dir
            .clone()
            .or_else(|| set("HF_HUB_CACHE").map(PathBuf::from))
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| {
                err!(NotFound, "no place for downloaded models: set HF_HOME or HF_HUB_CACHE to a directory")
            })?;
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|home| home.join("token")));
        let token = options
            .token
            .clone()
            .or_else(|| text("HF_TOKEN"))
            .or_else(|| std::fs::read_to_string(token_file?).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|t| !t.chars().all(|c| c.is_ascii_graphic())) {
            bail!(InvalidArgument, "the Hugging Face token holds characters no token has; set HF_TOKEN to it alone");
        }
        let revision = options.revision.clone().unwrap_or_else(|| "main".into());
        // It becomes part of a path and of an address.
        let fit = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if revision.is_empty()
            || revision.split('/').any(|p| p.is_empty() || p.starts_with('.'))
            || !revision.chars().all(fit)
        {
            bail!(InvalidArgument, "revision {revision:?} is no name of a branch, a tag or a commit");
        }
        let endpoint = options.endpoint.clone().or_else(|| text("HF_ENDPOINT"));
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned();
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!(InvalidArgument, "the hub's address {endpoint:?} (HF_ENDPOINT) should begin with https://");
        }
        let offline = options.offline.unwrap_or_else(|| {
            text("HF_HUB_OFFLINE").is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_lowercase().as_str()))
        });
        Ok(Self { revision, token, cache_dir, offline, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: HubOptions, env: &[(&str, &str)]) -> Result<Settings> {
        Settings::new(&options, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn the_cache_lies_where_huggingface_hub_puts_it() {
        let dir = |env: &[(&str, &str)]| settings(HubOptions::default(), env).unwrap().cache_dir;
        assert_eq!(dir(&[("HOME", "/h")]), PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(dir(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(dir(&[("HOME", "/h"), ("HF_HOME", "/f")]), PathBuf::from("/f/hub"));
        assert_eq!(dir(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), PathBuf::from("/c"));
        let options = HubOptions { cache_dir: Some("/o".into()), ..Default::default() };
        assert_eq!(settings(options, &[("HF_HUB_CACHE", "/c")]).unwrap().cache_dir, PathBuf::from("/o"));
        assert!(settings(HubOptions::default(), &[]).is_err());
    }

    #[test]
    fn options_go_before_the_environment() {
        let env = [("HOME", "/h"), ("HF_TOKEN", " t1\n"), ("HF_HUB_OFFLINE", "ON"), ("HF_ENDPOINT", "https://e/")];
        let from_env = settings(HubOptions::default(), &env).unwrap();
        assert_eq!(
            (from_env.token.as_deref(), from_env.offline, from_env.endpoint.as_str()),
            (Some("t1"), true, "https://e")
        );
        let options = HubOptions { token: Some("t2".into()), offline: Some(false), ..Default::default() };
        let chosen = settings(options, &env).unwrap();
        assert_eq!((chosen.token.as_deref(), chosen.offline, chosen.revision.as_str()), (Some("t2"), false, "main"));
    }

    #[test]
    fn the_token_is_read_from_its_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "t3\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(settings(HubOptions::default(), &[("HF_HOME", home)]).unwrap().token.as_deref(), Some("t3"));
    }

    #[test]
    fn what_cannot_be_an_address_or_a_revision_is_refused() {
        for revision in ["", "../x", "a b", "a//b", "/a"] {
            let options = HubOptions { revision: Some(revision.into()), ..Default::default() };
            assert!(settings(options, &[("HOME", "/h")]).is_err(), "{revision:?}");
        }
        let fails = |env: &[(&str, &str)]| settings(HubOptions::default(), env).is_err();
        assert!(fails(&[("HOME", "/h"), ("HF_ENDPOINT", "example.org")]));
        assert!(fails(&[("HOME", "/h"), ("HF_TOKEN", "a\nb")]));
    }
}
