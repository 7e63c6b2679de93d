//! Finding models: paths, the hub (a small server in this process), its cache, and what refusals say.

mod server;

use std::path::{Path, PathBuf};

use mlxterp::ErrorKind;
use mlxterp::core::hub::{HubOptions, ModelFiles, Progress, resolve};
use server::{COMMIT, Mood, Server};

const WEIGHTS: usize = 300_000;

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"read me".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"t\": 1}".to_vec()),
        ("modeling.py", b"import os".to_vec()),
        ("pytorch_model.bin", b"pickle".to_vec()),
        ("model.safetensors", (0..WEIGHTS).map(|i| (i % 251) as u8).collect()),
        ("q4/model.gguf", b"GGUF and more".to_vec()),
    ]
}

/// Options for `server` and an empty cache; the environment of whoever runs the tests decides nothing.
fn options(server: &Server, cache: &Path) -> HubOptions {
    HubOptions {
        revision: None,
        token: Some("none".into()),
        cache_dir: Some(cache.to_owned()),
        offline: Some(false),
        endpoint: Some(server.endpoint()),
    }
}

fn offline(cache: &Path) -> HubOptions {
    HubOptions { cache_dir: Some(cache.to_owned()), offline: Some(true), ..Default::default() }
}

fn directory(files: ModelFiles) -> PathBuf {
    match files {
        ModelFiles::Directory(path) => path,
        ModelFiles::Gguf(path) => panic!("{} is no directory", path.display()),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once_with_what_it_needs_and_nothing_else() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let options = options(&server, cache.path());
    let mut seen: Vec<Progress> = Vec::new();
    let mut note = |p: Progress| {
        seen.push(p);
        true
    };
    let dir = directory(resolve("org/name", &options, Some(&mut note)).unwrap());
    assert_eq!(dir, cache.path().join("models--org--name/snapshots").join(COMMIT));
    assert_eq!(names(&dir), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), files()[5].1);

    let total = (2 + 8 + WEIGHTS) as u64;
    assert!(seen.iter().all(|p| p.total == total && p.done <= total && p.file_done <= p.file_total));
    assert!(seen.windows(2).all(|w| w[0].done < w[1].done), "progress only grows");
    let last = seen.last().unwrap();
    assert_eq!((last.done, last.file.as_str(), last.file_done), (total, "model.safetensors", WEIGHTS as u64));

    server.asked();
    assert_eq!(directory(resolve("org/name", &options, None).unwrap()), dir);
    assert_eq!(server.asked(), ["/api/models/org/name/revision/main?blobs=true -"], "one question, no download");
    assert_eq!(directory(resolve("org/name", &offline(cache.path()), None).unwrap()), dir);
    let pinned = HubOptions { revision: Some(COMMIT.into()), ..options };
    assert_eq!(directory(resolve("org/name", &pinned, None).unwrap()), dir);
    assert!(server.asked().is_empty(), "a commit that is here needs no question");
}

#[test]
fn one_gguf_file_is_fetched_alone() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let found = resolve("org/name/q4/model.gguf", &options(&server, cache.path()), None).unwrap();
    let path = cache.path().join("models--org--name/snapshots").join(COMMIT).join("q4/model.gguf");
    assert_eq!(found, ModelFiles::Gguf(path.clone()));
    assert_eq!(std::fs::read(path).unwrap(), b"GGUF and more");
    assert!(server.asked().iter().all(|r| !r.contains("safetensors")));
    assert_eq!(resolve("org/name/q4/model.gguf", &offline(cache.path()), None).unwrap(), found);
    // The directory of the same repository is not complete by that.
    assert_eq!(resolve("org/name", &offline(cache.path()), None).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn large_files_on_another_server_are_followed() {
    let server = Server::start(&files(), Mood::Redirect);
    let cache = tempfile::tempdir().unwrap();
    let dir = directory(resolve("org/name", &options(&server, cache.path()), None).unwrap());
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), files()[5].1);
}

#[test]
fn a_token_opens_what_is_closed_without() {
    let server = Server::start(&files(), Mood::Token("hf_right"));
    let cache = tempfile::tempdir().unwrap();
    let with = |token: &str| HubOptions { token: Some(token.into()), ..options(&server, cache.path()) };
    let error = resolve("org/name", &with("hf_wrong"), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("HTTP 401") && error.message().contains("licence"), "{error}");
    assert!(!error.message().contains("hf_wrong"), "a token stays out of messages: {error}");
    assert!(resolve("org/name", &with("hf_right"), None).is_ok());
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let options = options(&server, cache.path());
    let told = |id: &str, revision: Option<&str>| {
        let options = HubOptions { revision: revision.map(str::to_owned), ..options.clone() };
        resolve(id, &options, None).unwrap_err()
    };
    let error = told("org/nome", None);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("org/nome") && error.message().contains("spelling"), "{error}");
    assert!(told("org/name", Some("v9")).message().contains("revision v9"));
    assert!(told("org/name", Some("../x")).kind() == ErrorKind::InvalidArgument);
    assert!(told("org/name/model.gguf", None).message().contains("q4/model.gguf"));
    for (code, part) in [(403, "HTTP 403"), (429, "fewer requests"), (500, "HTTP 500")] {
        server.set(Mood::Status(code));
        let error = told("org/name", None);
        assert!(error.kind() == ErrorKind::Io && error.message().contains(part), "{error}");
    }
    assert_eq!(names(cache.path()), [""; 0], "nothing was written");
}

#[test]
fn without_an_answer_the_cache_serves() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let dir = directory(resolve("org/name", &options(&server, cache.path()), None).unwrap());
    // A port nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = HubOptions { endpoint: Some(format!("http://{closed}")), ..options(&server, cache.path()) };
    assert_eq!(directory(resolve("org/name", &options, None).unwrap()), dir);
    let error = resolve("org/other", &options, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("cannot be reached for org/other"), "{error}");
}

#[test]
fn a_cancelled_download_goes_on_where_it_stopped() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let options = options(&server, cache.path());
    let mut calls_after = 0;
    let mut stopped = false;
    let mut stop_half_way = |p: Progress| {
        calls_after += usize::from(stopped);
        stopped = p.file == "model.safetensors" && p.file_done > WEIGHTS as u64 / 2;
        !stopped
    };
    let error = resolve("org/name", &options, Some(&mut stop_half_way)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Callback);
    assert!(error.message().contains("cancelled"), "{error}");
    assert_eq!(calls_after, 0, "nothing is told after a cancel");
    assert_eq!(resolve("org/name", &offline(cache.path()), None).unwrap_err().kind(), ErrorKind::NotFound);

    server.asked();
    let dir = directory(resolve("org/name", &options, None).unwrap());
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), files()[5].1);
    let asked = server.asked();
    assert!(asked.iter().all(|r| !r.contains("config.json")), "{asked:?}");
    let resumed =
        asked.iter().filter_map(|r| r.split_once("model.safetensors bytes=")).filter(|(_, r)| r.ends_with('-'));
    let start: usize = resumed.map(|(_, r)| r.trim_end_matches('-').parse().unwrap()).next().unwrap();
    assert!(start > WEIGHTS / 4, "resumed at {start}");
}

#[test]
fn a_panic_of_the_callback_stays_a_panic() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    let options = options(&server, cache.path());
    let caught = std::panic::catch_unwind(|| {
        resolve("org/name", &options, Some(&mut |_: Progress| -> bool { std::panic::resume_unwind(Box::new(42)) }))
    });
    assert_eq!(caught.unwrap_err().downcast_ref::<i32>(), Some(&42));
    assert!(resolve("org/name", &options, None).is_ok(), "nothing is left locked");
}

#[test]
fn a_body_that_ends_early_leaves_no_model_behind() {
    let server = Server::start(&files(), Mood::Cut);
    let cache = tempfile::tempdir().unwrap();
    let error = resolve("org/name", &options(&server, cache.path()), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    let attempts = server.asked().into_iter().filter(|r| r.contains("model.safetensors bytes=") && r.ends_with('-'));
    assert_eq!(attempts.count(), 3);
    assert_eq!(resolve("org/name", &offline(cache.path()), None).unwrap_err().kind(), ErrorKind::NotFound);
    server.set(Mood::Kind);
    let dir = directory(resolve("org/name", &options(&server, cache.path()), None).unwrap());
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), files()[5].1);
}

#[test]
fn a_part_that_is_whole_does_not_stand_in_the_way() {
    let server = Server::start(&files(), Mood::Kind);
    let cache = tempfile::tempdir().unwrap();
    // As after a crash between the last byte and the file's final name.
    let blobs = cache.path().join("models--org--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(blobs.join("model-safetensors.part"), vec![7; WEIGHTS]).unwrap();
    let dir = directory(resolve("org/name", &options(&server, cache.path()), None).unwrap());
    assert_eq!(std::fs::read(dir.join("model.safetensors")).unwrap(), files()[5].1);
}

#[test]
fn a_commit_that_is_a_path_is_refused() {
    let server = Server::start(&files(), Mood::HostileCommit);
    let cache = tempfile::tempdir().unwrap();
    let error = resolve("org/name", &options(&server, cache.path()), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(names(cache.path()), [""; 0]);
}

/// A cache as other programs leave it: a branch, a snapshot, files.
fn hand_made(cache: &Path, files: &[(&str, &str)]) -> PathBuf {
    let repository = cache.join("models--org--name");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    for (name, text) in files {
        std::fs::write(snapshot.join(name), text).unwrap();
    }
    snapshot
}

#[test]
fn offline_only_complete_snapshots_count() {
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let cases: [(&[(&str, &str)], bool); 6] = [
        (&[("config.json", "{}"), ("model.safetensors", "w")], true),
        (&[("config.json", "{}"), ("model.safetensors.index.json", index), ("model-1.safetensors", "w")], false),
        (
            &[
                ("config.json", "{}"),
                ("model.safetensors.index.json", index),
                ("model-1.safetensors", "w"),
                ("model-2.safetensors", "w"),
            ],
            true,
        ),
        (&[("model.safetensors", "w")], false),
        (&[("config.json", "{}")], false),
        (&[], false),
    ];
    for (files, complete) in cases {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = hand_made(cache.path(), files);
        match resolve("org/name", &offline(cache.path()), None) {
            Ok(found) => assert!(complete && directory(found) == snapshot, "{files:?}"),
            Err(error) => {
                assert!(!complete && error.kind() == ErrorKind::NotFound, "{files:?}: {error}");
                assert!(error.message().contains("HF_HUB_OFFLINE"), "{error}");
            }
        }
    }
    let cache = tempfile::tempdir().unwrap();
    hand_made(cache.path(), &[("config.json", "{}"), ("model.safetensors.index.json", "{")]);
    let error = resolve("org/name", &offline(cache.path()), None).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupt && error.message().contains("index.json"), "{error}");
    std::fs::write(cache.path().join("models--org--name/refs/main"), "../../elsewhere").unwrap();
    assert_eq!(resolve("org/name", &offline(cache.path()), None).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn paths_on_this_machine_go_before_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("a.GGUF"), "x").unwrap();
    std::fs::write(at("model.safetensors"), "x").unwrap();
    let find = |source: &str| resolve(source, &offline(dir.path()), None);
    assert_eq!(find(dir.path().to_str().unwrap()).unwrap(), ModelFiles::Directory(dir.path().to_owned()));
    assert_eq!(find(&at("a.GGUF")).unwrap(), ModelFiles::Gguf(at("a.GGUF").into()));
    let error = find(&at("model.safetensors")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    std::fs::write(at("config.json"), "{}").unwrap();
    assert!(find(&at("model.safetensors")).unwrap_err().message().contains("name its directory"));
    for missing in [at("nowhere"), "nowhere".into(), String::new()] {
        let error = find(&missing).unwrap_err();
        assert!(error.kind() == ErrorKind::NotFound && error.message().contains("org/name"), "{error}");
    }
}
