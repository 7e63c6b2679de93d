//! What the hub's refusals mean and what to do about them.

use hf_hub::api::sync::ApiError;

use super::HubId;
use super::settings::Settings;
use crate::error::{Error, err};

/// The status of an answer that was a refusal.
pub(super) fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(e) => match **e {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

/// An error for people from one of hf-hub's.
pub(super) fn explain(error: &ApiError, id: &HubId, settings: &Settings) -> Error {
    let name = &id.repository;
    let endpoint = &settings.endpoint;
    match (status(error), error) {
        (Some(code @ (401 | 403)), _) => {
            let token = match settings.token {
                Some(_) => "the token given may not read it: check it, and accept the model's licence at",
                None => {
                    "if it is private or gated, set HF_TOKEN to a token that may read it, after accepting its licence at"
                }
            };
            err!(Io, "{endpoint} refused {name} (HTTP {code}): it does not exist, or {token} {endpoint}/{name}")
        }
        (Some(404), _) => err!(
            NotFound,
            "{name} (revision {}) is neither a path on this machine nor a repository at {endpoint}: check the spelling",
            settings.revision
        ),
        (Some(429), _) => err!(Io, "{endpoint} wants fewer requests (HTTP 429): try again later, or set HF_TOKEN"),
        (Some(code), _) => err!(Io, "{endpoint} failed with HTTP {code} for {name}: try again later"),
        (None, ApiError::LockAcquisition(path)) => {
            err!(Io, "another process is fetching {name}; wait for it, or remove {} if there is none", path.display())
        }
        (None, ApiError::IoError(e)) => err!(Io, "fetching {name} into {}: {e}", settings.cache_dir.display()),
        (None, ApiError::InvalidResume) => err!(
            Corrupt,
            "an interrupted download of {name} is longer than the file itself: remove the *.part files under {}",
            settings.cache_dir.display()
        ),
        (None, e) => err!(
            Io,
            "{endpoint} cannot be reached for {name}: {e}; check the connection, or work offline with a model that was \
             loaded before or the path of a local copy"
        ),
    }
}
