//! Fetching what the cache lacks.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};
use serde::Deserialize;

use super::settings::Settings;
use super::{HubId, ModelFiles, OnProgress, Progress, cache, errors, select};
use crate::error::{Error, Result, bail, err};

/// What the hub tells about a repository at one revision.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
}

/// The files of `id`, those the cache lacks fetched from the hub.
pub(super) fn snapshot(id: &HubId, settings: &Settings, progress: Option<OnProgress<'_>>) -> Result<ModelFiles> {
    // A commit never changes: what is here in full needs no question.
    if settings.revision.len() == 40
        && cache::is_commit(&settings.revision)
        && let Some(files) = cache::find(id, settings)?
    {
        return Ok(files);
    }
    let told = |e: &ApiError| errors::explain(e, id, settings);
    let api = ApiBuilder::from_cache(Cache::new(settings.cache_dir.clone()))
        .with_endpoint(settings.endpoint.clone())
        .with_token(settings.token.clone())
        .with_progress(false)
        .with_user_agent("mlxterp", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|e| told(&e))?;
    let listing = match listing(&api, id, settings) {
        Ok(listing) => listing,
        // No answer at all: what was fetched before is better than an error.
        Err(e) if errors::status(&e).is_none() => {
            return cache::find(id, settings)?.ok_or_else(|| told(&e));
        }
        Err(e) => return Err(told(&e)),
    };
    if !cache::is_commit(&listing.sha) {
        bail!(Corrupt, "{} names the commit {:?}, which is no hash", settings.endpoint, listing.sha);
    }
    let names: Vec<String> = listing.siblings.iter().map(|s| s.rfilename.clone()).collect();
    let wanted = select::wanted(id, &names)?;

    // All files are asked for by commit, so that a push in between cannot mix two states.
    let repo = api.repo(cache::repo(id, &listing.sha));
    let cached = Cache::new(settings.cache_dir.clone()).repo(cache::repo(id, &listing.sha));
    let folder = cached.pointer_path(&listing.sha);
    let size = |name: &String| listing.siblings.iter().find(|s| s.rfilename == *name).and_then(|s| s.size).unwrap_or(0);
    let (here, missing): (Vec<String>, Vec<String>) = wanted.into_iter().partition(|f| folder.join(f).is_file());
    let mut meter = Meter {
        progress,
        done: here.iter().map(size).sum(),
        total: here.iter().chain(&missing).map(size).sum(),
        cancelled: false,
        telling: false,
    };
    for name in &missing {
        let job = Job { api: &api, repo: &repo, cached: &cached, name, size: size(name) };
        fetch(&job, &mut meter, &told).map_err(|e| e.context(format!("{name} of {id}")))?;
    }
    if let Err(e) =
        Cache::new(settings.cache_dir.clone()).repo(cache::repo(id, &settings.revision)).create_ref(&listing.sha)
    {
        bail!(Io, "{}: {e}", settings.cache_dir.display());
    }
    Ok(match &id.gguf {
        Some(file) => ModelFiles::Gguf(folder.join(file)),
        None => ModelFiles::Directory(folder),
    })
}

fn listing(api: &Api, id: &HubId, settings: &Settings) -> std::result::Result<Listing, ApiError> {
    let request = api.repo(cache::repo(id, &settings.revision)).info_request().query("blobs", "true");
    let mut response = request.call().map_err(Box::new)?;
    Ok(response.body_mut().read_json().map_err(Box::new)?)
}

/// One file to fetch.
struct Job<'a> {
    api: &'a Api,
    repo: &'a ApiRepo,
    cached: &'a CacheRepo,
    name: &'a str,
    /// Its size as listed, in bytes.
    size: u64,
}

/// How often a file is asked for before giving up.
const ATTEMPTS: u32 = 3;

/// Fetches one file, resuming where an earlier attempt stopped.
///
/// hf-hub's own retries are off: after a resumed attempt they append the whole file to the part that is there.
fn fetch(job: &Job<'_>, meter: &mut Meter<'_>, told: &dyn Fn(&ApiError) -> Error) -> Result<()> {
    for attempt in 1.. {
        let error = match attempt_fetch(job, meter)? {
            Ok(()) => return Ok(()),
            Err(e) => e,
        };
        let status = errors::status(&error);
        if status == Some(416) {
            // All of it arrived once, and the attempt ended before the file got its name.
            forget_part(job);
        }
        let passing = matches!(error, ApiError::RequestError(_) | ApiError::IoError(_));
        if attempt == ATTEMPTS || !passing || status.is_some_and(|code| code < 500 && code != 416) {
            return Err(told(&error));
        }
        std::thread::sleep(Duration::from_millis(300) * attempt);
    }
    unreachable!("the loop returns at the last attempt")
}

/// The outer error ends the download, the inner one may pass.
fn attempt_fetch(job: &Job<'_>, meter: &mut Meter<'_>) -> Result<std::result::Result<(), ApiError>> {
    let mut file = FileMeter { meter, name: job.name.to_owned(), done: 0, total: job.size };
    // hf-hub's progress trait cannot say stop, so a cancelled download unwinds out of it; the lock on the partial file
    // is released on the way. The panic hook is not run.
    let fetched = catch_unwind(AssertUnwindSafe(|| job.repo.download_with_progress(job.name, &mut file)));
    let total = file.total;
    let path = match fetched {
        Err(panic) if meter.telling => resume_unwind(panic),
        _ if meter.cancelled => {
            bail!(
                Callback,
                "the download was cancelled; what has arrived is kept, and loading again goes on from there"
            )
        }
        Ok(Ok(path)) => path,
        Ok(Err(e)) => return Ok(Err(e)),
        Err(_) => bail!(Corrupt, "the hub's answer makes no sense"),
    };
    let length = std::fs::metadata(&path).map_err(|e| err!(Io, "{}: {e}", path.display()))?.len();
    if length != total {
        forget(&path);
        bail!(Io, "{length} bytes arrived instead of {total}: load again");
    }
    meter.done += total;
    Ok(Ok(()))
}

/// Removes the partial file of an earlier attempt.
fn forget_part(job: &Job<'_>) {
    if let Ok(metadata) = job.api.metadata(&job.repo.url(job.name)) {
        let _ = std::fs::remove_file(job.cached.blob_path(metadata.etag()).with_extension("part"));
    }
}

/// Removes a link into the cache and the file it points to.
fn forget(link: &Path) {
    if let Ok(blob) = link.canonicalize() {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(link);
}

/// Bytes over all files.
struct Meter<'a> {
    progress: Option<OnProgress<'a>>,
    done: u64,
    total: u64,
    cancelled: bool,
    /// Whether the user's callback is running, so that a panic is known to be its own.
    telling: bool,
}

/// Bytes of one file.
struct FileMeter<'m, 'a> {
    meter: &'m mut Meter<'a>,
    name: String,
    done: u64,
    total: u64,
}

/// What a cancelled download unwinds with.
struct Cancelled;

impl FileMeter<'_, '_> {
    fn tell(&mut self) {
        let done = self.meter.done + self.done;
        let now = Progress {
            file: self.name.clone(),
            file_done: self.done,
            file_total: self.total,
            done,
            total: self.meter.total.max(done),
        };
        let meter = &mut *self.meter;
        let Some(progress) = meter.progress.as_mut().filter(|_| !meter.cancelled) else { return };
        meter.telling = true;
        meter.cancelled = !progress(now);
        meter.telling = false;
        // Where panics abort, the file at hand is fetched to its end first.
        if meter.cancelled && cfg!(panic = "unwind") {
            resume_unwind(Box::new(Cancelled));
        }
    }
}

impl hf_hub::api::Progress for &mut FileMeter<'_, '_> {
    fn init(&mut self, size: usize, _: &str) {
        // Called once more for every attempt; each then reports what an earlier one has left.
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        // The last read of a file brings nothing; stopping there would leave a partial file that is complete.
        if size > 0 {
            self.done += size as u64;
            self.tell();
        }
    }

    fn finish(&mut self) {}
}
