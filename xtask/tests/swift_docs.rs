//! What a reader of the Swift package's reference meets: a comment on everything public, and every type among the topics.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("swift/MLXTerp")
}

/// Every Swift file by name, as lines.
fn files() -> Vec<(String, Vec<String>)> {
    let entries = fs::read_dir(sources()).unwrap().map(|e| e.unwrap().path());
    let swift = entries.filter(|p| p.extension().is_some_and(|e| e == "swift"));
    let lines = |p: &Path| fs::read_to_string(p).unwrap().lines().map(String::from).collect();
    swift.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), lines(&p))).collect()
}

/// The words of a public declaration; an extension is none.
fn public(line: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = line.split_whitespace().skip_while(|w| w.starts_with('@')).collect();
    let is_public = words.first() == Some(&"public") && words.get(1) != Some(&"extension");
    is_public.then_some(words)
}

#[test]
fn everything_public_has_a_comment() {
    let mut bare = Vec::new();
    let mut seen = 0;
    for (file, lines) in files() {
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| public(line).is_some()) {
            let before = lines[..i].iter().rev().map(|l| l.trim()).find(|l| !l.starts_with('@'));
            seen += 1;
            if !before.is_some_and(|l| l.starts_with("///")) {
                bare.push(format!("{file}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    assert!(seen > 150, "only {seen} public declarations were found");
    assert!(bare.is_empty(), "without a comment:\n{}", bare.join("\n"));
}

#[test]
fn every_public_type_stands_among_the_topics() {
    let topics = fs::read_to_string(sources().join("MLXTerp.docc/MLXTerp.md")).unwrap();
    let mut missing = Vec::new();
    for (file, lines) in files() {
        // A nested type belongs to the page of its own.
        for words in lines.iter().filter(|l| !l.starts_with(' ')).filter_map(|l| public(l)) {
            let kind = words.iter().position(|w| ["class", "struct", "enum", "protocol"].contains(w));
            let Some(name) = kind.and_then(|k| words.get(k + 1)) else { continue };
            let name = name.trim_end_matches(|c: char| !c.is_alphanumeric());
            let name = name.split(['<', ':']).next().unwrap_or(name);
            if !topics.contains(&format!("``{name}``")) {
                missing.push(format!("{file}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in MLXTerp.docc/MLXTerp.md: {missing:?}");
}
