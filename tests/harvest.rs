//! Harvests: each vector against a run of its document alone, ends at any moment, parts, dtypes, mistakes.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mlxterp::ErrorKind;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::{LoadOptions, Model};
use mlxterp::core::tensor::Dtype;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::harvest::{Harvest, HarvestOptions, Index, Long, Part, harvest};
use mlxterp::toolkit::{Call, run};
use mlxterp::utils::Document;
use serde_json::{Value, json};
use support::*;

fn small() -> Model {
    tiny("llama")
}

/// Documents of random ids, of 0 to `most` tokens.
fn documents(n: usize, most: usize, seed: u64) -> Vec<Document> {
    let mut random = mlxterp::utils::Random::new(seed);
    (0..n)
        .map(|_| {
            let length = random.below(most + 1);
            Document::Tokens((0..length).map(|_| random.below(64) as u32).collect())
        })
        .collect()
}

fn options(sites: &[&str]) -> HarvestOptions {
    HarvestOptions {
        sites: sites.iter().map(|s| (*s).to_owned()).collect(),
        max_tokens: 16,
        // The ids that the tiny model's config calls special are tokens like any here.
        skip_special: false,
        batch_size: 3,
        window: 2,
        shard_vectors: 60,
        ..HarvestOptions::default()
    }
}

fn all(model: &Model, docs: &[Document], folder: &Path, options: &HarvestOptions) -> Index {
    let docs = docs.iter().cloned().map(Ok);
    harvest(model, docs, Part::default(), folder, options, &TraceOptions::default(), &mut None).unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[track_caller]
fn same(a: &Path, b: &Path) {
    let (a, b) = (files(a), files(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs");
    }
}

#[test]
fn each_vector_is_that_of_its_document_alone() {
    let model = small();
    let docs = documents(40, 30, 1);
    let folder = tempfile::tempdir().unwrap();
    let sites = ["layers.0.output", "layers.1.attn.z"];
    for (long, name) in [(Long::Chunk, "chunk"), (Long::Truncate, "truncate")] {
        let out = folder.path().join(name);
        let how = HarvestOptions { long, ..options(&sites) };
        let index = all(&model, &docs, &out, &how);
        assert!(index.complete && index.documents == 40 && index.shards.len() > 3);
        let read = Harvest::open(&out).unwrap();
        let mut found: Vec<(u32, u32, u32, Vec<Vec<f32>>)> = Vec::new();
        for shard in read.shards() {
            let shard = shard.unwrap();
            let ints = |a: &mlxterp::core::tensor::Array| a.to_vec::<u32>().unwrap();
            let (tokens, documents, positions) = (ints(&shard.tokens), ints(&shard.documents), ints(&shard.positions));
            let vectors: Vec<Vec<f32>> = shard.sites.iter().map(|(_, a)| values(a)).collect();
            for i in 0..tokens.len() {
                let own = vectors.iter().map(|v| {
                    let width = v.len() / tokens.len();
                    v[i * width..(i + 1) * width].to_vec()
                });
                found.push((documents[i], positions[i], tokens[i], own.collect()));
            }
        }
        let mut expected = 0;
        let mut at = found.iter();
        for (d, document) in docs.iter().enumerate() {
            let Document::Tokens(ids) = document else { continue };
            let pieces: Vec<&[u32]> = ids.chunks(16).take(if long == Long::Chunk { 99 } else { 1 }).collect();
            for (k, piece) in pieces.into_iter().enumerate() {
                let trace = model.trace(piece).unwrap();
                let state = values(&trace.get(sites[0]).unwrap());
                let z = trace.get(sites[1]).unwrap();
                let (heads, features, z_values) = (z.dim(1), z.dim(3), values(&z));
                for (p, token) in piece.iter().enumerate() {
                    let (document, position, own, vectors) = at.next().expect("a vector is missing");
                    assert_eq!((*document as usize, *position as usize, own), (d, k * 16 + p, token));
                    let width = state.len() / piece.len();
                    assert_close(&vectors[0], &state[p * width..(p + 1) * width], 1e-5, "state");
                    let by_head: Vec<f32> = (0..heads)
                        .flat_map(|h| z_values[(h * piece.len() + p) * features..][..features].to_vec())
                        .collect();
                    assert_close(&vectors[1], &by_head, 1e-5, "heads one after another");
                    expected += 1;
                }
            }
        }
        assert!(at.next().is_none(), "a vector too many");
        assert_eq!(index.vectors, expected);
    }
}

/// A model with a tokenizer, and its folder.
fn worded() -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().unwrap();
    for source in ["tiny/llama_tied", "tiny/tokenizer"] {
        for entry in std::fs::read_dir(fixture(source)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let model = load(folder.path(), &LoadOptions::default());
    (folder, model)
}

#[test]
fn special_tokens_are_left_out_or_kept() {
    let (folder, model) = worded();
    let special = model.special_ids();
    let mark = model.tokenizer().unwrap().token_to_str(*special.iter().next().unwrap()).unwrap();
    let docs = [Document::Text(format!("a text {mark} and more")), Document::Text("plain".into())];
    let tokens = |keep: bool, name: &str| {
        let how = HarvestOptions { skip_special: !keep, ..options(&["layers.0"]) };
        let out = folder.path().join(name);
        all(&model, &docs, &out, &how);
        Harvest::open(&out).unwrap().shard(0).unwrap().tokens.to_vec::<u32>().unwrap()
    };
    let (kept, without) = (tokens(true, "kept"), tokens(false, "without"));
    let encoded: Vec<u32> = docs
        .iter()
        .flat_map(|d| match d {
            Document::Text(t) => model.tokenizer().unwrap().encode_prompt(t).unwrap(),
            Document::Tokens(_) => unreachable!(),
        })
        .collect();
    assert_eq!(kept, encoded);
    assert!(kept.iter().any(|t| special.contains(t)));
    assert_eq!(without, encoded.into_iter().filter(|t| !special.contains(t)).collect::<Vec<_>>());
}

#[test]
fn dtypes_are_as_asked_for() {
    let model = small();
    let folder = tempfile::tempdir().unwrap();
    let docs = documents(12, 10, 4);
    let of = |dtype: &str| {
        let out = folder.path().join(dtype);
        all(&model, &docs, &out, &HarvestOptions { dtype: dtype.to_owned(), ..options(&["layers.0"]) });
        Harvest::open(out).unwrap().shard(0).unwrap().sites.remove(0).1
    };
    let full = of("float32");
    for (name, dtype, bound) in [("bfloat16", Dtype::Bfloat16, 4e-3), ("float16", Dtype::Float16, 5e-4)] {
        let half = of(name);
        assert_eq!(half.dtype(), dtype);
        assert_close(&values(&half), &values(&full), bound, name);
    }
}

fn stopped(model: &Model, docs: &[Document], folder: &Path, how: &HarvestOptions, after: usize) -> bool {
    let mut calls = 0;
    let mut tell = |_: u64, _: u64| {
        calls += 1;
        calls < after
    };
    let docs = docs.iter().cloned().map(Ok);
    let done = harvest(model, docs, Part::default(), folder, how, &TraceOptions::default(), &mut Some(&mut tell));
    done.map_err(|e| assert_eq!(e.kind(), ErrorKind::Callback)).is_err()
}

/// Stopped after every window in turn, in the middle of long documents too.
#[test]
fn a_harvest_that_was_stopped_goes_on_to_the_same_bits() {
    let model = small();
    let docs = documents(30, 50, 2);
    let how = HarvestOptions { shard_vectors: 40, ..options(&["layers.0", "layers.1.mlp"]) };
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    all(&model, &docs, &whole, &how);
    let mut in_a_document = 0;
    for after in 1..9 {
        let out = folder.path().join(after.to_string());
        assert!(stopped(&model, &docs, &out, &how, after));
        if out.join("index.json").exists() {
            let index = Harvest::open(&out).unwrap().index;
            assert!(!index.complete);
            in_a_document += usize::from(index.pieces > 0);
        }
        // Twice more, then to the end.
        stopped(&model, &docs, &out, &how, 2);
        stopped(&model, &docs, &out, &how, 3);
        all(&model, &docs, &out, &how);
        same(&out, &whole);
    }
    assert!(in_a_document > 0, "no stop fell into a document");
    // Once done it stays as it is, whatever is given.
    let before = files(&whole);
    all(&model, &docs[..1], &whole, &how);
    assert_eq!(before, files(&whole));
}

fn command(model: &Path, data: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mlxterp"));
    command.arg("harvest").arg(model).arg(data).arg(out);
    command.args(["--site", "layers.*.output", "--batch-size", "4", "--window", "2", "--shard-vectors", "300"]);
    command.args(["--max-tokens", "24", "--json"]).env("OPENBLAS_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn shards(out: &Path) -> usize {
    std::fs::read_dir(out).map_or(0, |all| {
        all.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "safetensors")).count()
    })
}

/// The process is killed where it stands, several times.
#[test]
fn a_killed_process_loses_nothing_and_doubles_nothing() {
    let (folder, _) = worded();
    let data = folder.path().join("data.jsonl");
    let words = ["one", "two", "three hundred", "a longer stretch of words", "x"];
    let mut random = mlxterp::utils::Random::new(6);
    let lines = (0..600).map(|i| {
        let text: Vec<&str> = (0..random.below(12)).map(|_| words[random.below(5)]).collect();
        json!({"text": text.join(" "), "id": i}).to_string() + "\n"
    });
    std::fs::write(&data, lines.collect::<String>()).unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    assert!(command(folder.path(), &data, &whole).status().unwrap().success());
    let mut kills = 0;
    for wanted in [1, 3, 6] {
        let mut child = command(folder.path(), &data, &killed).spawn().unwrap();
        let start = Instant::now();
        while shards(&killed) < wanted && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(300));
            std::thread::sleep(Duration::from_millis(1));
        }
        // SIGKILL: nothing of the process runs any more.
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        if killed.join("index.json").exists() && !Harvest::open(&killed).unwrap().index.complete {
            assert!(shards(&killed) < shards(&whole));
        }
    }
    assert!(kills > 0, "it was always done before it was killed");
    // What a write that was cut short leaves behind.
    std::fs::write(killed.join("shard-00099.safetensors.unfinished"), b"half").unwrap();
    assert!(command(folder.path(), &data, &killed).status().unwrap().success());
    same(&killed, &whole);
}

#[test]
fn parts_of_a_data_set_join() {
    let model = small();
    let docs = documents(24, 20, 3);
    let how = options(&["layers.0"]);
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    all(&model, &docs, &whole, &how);
    let give = |start: usize, stop: usize, last: bool| {
        let part = Part { start: start as u64, last };
        let given = docs[start..stop].iter().cloned().map(Ok);
        harvest(&model, given, part, &parts, &how, &TraceOptions::default(), &mut None)
    };
    assert!(!give(0, 10, false).unwrap().complete);
    // Given again: what is done is passed over.
    assert_eq!(give(0, 10, false).unwrap().documents, 10);
    assert!(give(14, 20, false).unwrap_err().message().contains("missing"));
    assert!(give(5, 24, true).unwrap().complete);
    let read = |folder: &PathBuf| {
        let harvest = Harvest::open(folder).unwrap();
        let (mut places, mut vectors) = (Vec::new(), Vec::new());
        for shard in harvest.shards().map(Result::unwrap) {
            let ints = |a: &mlxterp::core::tensor::Array| a.to_vec::<u32>().unwrap();
            places.extend(ints(&shard.documents).into_iter().zip(ints(&shard.positions)));
            vectors.extend(values(&shard.sites[0].1));
        }
        (places, vectors)
    };
    let (a, b) = (read(&whole), read(&parts));
    assert_eq!(a.0, b.0);
    assert_close(&b.1, &a.1, 1e-5, "in parts");
}

#[test]
fn mistakes_are_told_and_leave_what_is_there() {
    let model = small();
    let docs = documents(20, 20, 5);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("h");
    let how = options(&["layers.0"]);
    let tell = |docs: &[Document], out: &Path, how: &HarvestOptions, trace: TraceOptions| {
        let docs = docs.iter().cloned().map(Ok);
        harvest(&model, docs, Part::default(), out, how, &trace, &mut None).unwrap_err().message().to_owned()
    };
    let fails = |how: HarvestOptions| tell(&docs, &folder.path().join("none"), &how, TraceOptions::default());
    assert!(fails(HarvestOptions { sites: vec![], ..how.clone() }).contains("no sites"));
    assert!(fails(options(&["layers.9"])).contains("no site"));
    assert!(fails(options(&["layers.0.attn.pattern"])).contains("by position"));
    assert!(fails(HarvestOptions { batch_size: 0, ..how.clone() }).contains("batch_size 0"));
    assert!(fails(HarvestOptions { dtype: "int8".into(), ..how.clone() }).contains("int8"));
    assert!(fails(HarvestOptions { dtype: "float8".into(), ..how.clone() }).contains("float8"));
    assert!(fails(HarvestOptions { max_tokens: 1 << 30, ..how.clone() }).contains("context"));
    let rows = TraceOptions::default().with("layers.0", Intervention::scale(2.0).rows([0]));
    assert!(tell(&docs, &out, &how, rows).contains("names rows"));
    let large = TraceOptions::default().with("layers.0", Intervention::scale(1e6));
    let half = HarvestOptions { dtype: "float16".into(), ..how.clone() };
    let said = tell(&docs, &folder.path().join("large"), &half, large);
    assert!(said.contains("in document") && said.contains("bfloat16"), "{said}");
    let foreign = [Document::Tokens(vec![1, 99])];
    assert!(
        tell(&foreign, &folder.path().join("foreign"), &how, TraceOptions::default())
            .contains("document 0: token id 99")
    );
    let text = [Document::Text("words".into())];
    assert!(tell(&text, &folder.path().join("text"), &how, TraceOptions::default()).contains("tokenizer"));
    assert!(!folder.path().join("none").exists());

    // Begun, then gone on with differently.
    assert!(stopped(&model, &docs, &out, &how, 2));
    let before = files(&out);
    let other = HarvestOptions { batch_size: 5, ..how.clone() };
    assert!(tell(&docs, &out, &other, TraceOptions::default()).contains("with batch_size 3, not 5"));
    assert!(tell(&docs, &out, &options(&["layers.1"]), TraceOptions::default()).contains("with sites layers.0"));
    let scaled = TraceOptions::default().with("layers.0", Intervention::scale(2.0));
    assert!(tell(&docs, &out, &how, scaled).contains("interventions"));
    let said = tell(&docs[1..], &out, &how, TraceOptions::default());
    assert!(said.contains("data set changed"), "{said}");
    assert!(tell(&docs[..1], &out, &how, TraceOptions::default()).contains("not the one that was begun"));
    assert_eq!(before, files(&out));

    // Shards that are not what they were.
    let shard = out.join("shard-00000.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    let opening = || Harvest::open(&out).unwrap_err().message().to_owned();
    std::fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    assert!(
        opening().contains("shard-00000") && tell(&docs, &out, &how, TraceOptions::default()).contains("shard-00000")
    );
    std::fs::remove_file(&shard).unwrap();
    assert!(opening().contains("no file"));
    std::fs::copy(fixture("steering/expected.safetensors"), &shard).unwrap();
    assert!(opening().contains("no tensor 'layers.0.output'"));
    std::fs::write(&shard, &bytes).unwrap();
    all(&model, &docs, &out, &how);
    let index = std::fs::read_to_string(out.join("index.json")).unwrap();
    std::fs::write(out.join("index.json"), index.replace("shard-00000", "../shard-00000")).unwrap();
    assert!(opening().contains("not in its folder"));
    std::fs::write(out.join("index.json"), &index[..40]).unwrap();
    assert!(opening().contains("not the index"));
    assert!(Harvest::open(folder.path()).unwrap_err().message().contains("no harvest"));
}

#[test]
fn the_tool_harvests_and_reads() {
    let model = small();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("h");
    let docs: Vec<Vec<u32>> = (0..9).map(|i| (0..=i).collect()).collect();
    let given = json!({"out": out, "documents": docs, "sites": ["layers.*.output"], "max_tokens": 8,
        "shard_vectors": 20, "skip_special": false});
    let found = run(&model, "harvest", Call::new(given)).unwrap();
    assert!(found.json().unwrap()["complete"].as_bool().unwrap() && found.figure().contains("layers.1.output"));
    assert!(found.to_string().contains("45 vectors of 2 sites from 9 documents"), "{found}");
    let shard = run(&model, "harvest", Call::new(json!({"out": out, "shard": 0}))).unwrap();
    let names: Vec<String> = shard.arrays().unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["layers.0.output", "layers.1.output", "tokens", "documents", "positions"]);
    let told = |options: Value| run(&model, "harvest", Call::new(options)).map(drop).unwrap_err().message().to_owned();
    assert!(told(json!({"out": out, "shard": 77})).contains("no shard 77"));
    assert!(told(json!({"out": folder.path()})).contains("no harvest"));
    assert!(told(json!({"out": out, "documents": [], "data": "a.txt"})).contains("not both"));
    assert!(told(json!({"out": out, "data": "no.txt"})).contains("no file"));
    assert!(told(json!({"out": out, "data": "a.txt", "start": 3})).contains("whole"));
    assert!(told(json!({"out": out, "site": ["x"]})).contains("unknown field `site`"));
    assert!(told(json!({"out": out, "documents": [3]})).contains("a text or a list"));
}
