//! Texts to run over, one after another: from a file that is read as it is used, or from memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ErrorKind, Result, bail, err};

/// A text, or its token ids.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a document is a text or a list of token ids")]
pub enum Document {
    /// For the model's tokenizer.
    Text(String),
    /// As they are.
    Tokens(Vec<u32>),
}

impl Document {
    /// Its bytes, for telling whether a data set is the one it was.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Document::Text(text) => text.as_bytes().to_vec(),
            Document::Tokens(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        }
    }
}

/// The documents of a file: `.txt`, one a line; `.jsonl`, an object a line, its text under a key, or its ids under
/// "tokens". Empty lines are none. Read line by line: a file may be larger than memory.
pub struct Documents {
    lines: std::io::Split<BufReader<File>>,
    path: PathBuf,
    line: usize,
    /// The key of a text; none for plain lines.
    key: Option<String>,
}

impl Documents {
    /// Opens a file. `key` is where a line of JSON has its text.
    pub fn open(path: impl AsRef<Path>, key: &str) -> Result<Self> {
        let path = path.as_ref();
        let key = match path.extension().and_then(|e| e.to_str()) {
            Some("txt") => None,
            Some("jsonl") => Some(key.to_owned()),
            _ => bail!(InvalidArgument, "{}: a data set is a .txt file, a text a line, or .jsonl", path.display()),
        };
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => err!(NotFound, "there is no file `{}`", path.display()),
            _ => err!(Io, "cannot read `{}`: {e}", path.display()),
        })?;
        Ok(Self { lines: BufReader::new(file).split(b'\n'), path: path.to_owned(), line: 0, key })
    }

    fn document(&self, line: Vec<u8>) -> Result<Option<Document>> {
        let text = String::from_utf8(line).map_err(|e| err!(Corrupt, "not UTF-8: {e}"))?;
        let text = text.strip_suffix('\r').unwrap_or(&text);
        if text.trim().is_empty() {
            return Ok(None);
        }
        let Some(key) = &self.key else { return Ok(Some(Document::Text(text.to_owned()))) };
        let object: Value = serde_json::from_str(text).map_err(|e| err!(Corrupt, "not JSON: {e}"))?;
        if let Some(Value::String(text)) = object.get(key) {
            return Ok(Some(Document::Text(text.clone())));
        }
        let ids = object.get("tokens").cloned().map(serde_json::from_value::<Vec<u32>>);
        match ids {
            Some(Ok(ids)) => Ok(Some(Document::Tokens(ids))),
            _ => {
                bail!(Corrupt, "an object with a text under \"{key}\" was expected, or a list of ids under \"tokens\"")
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = self.lines.next()?;
            self.line += 1;
            let made = read.map_err(|e| crate::error::Error::new(ErrorKind::Io, e.to_string()));
            match made.and_then(|line| self.document(line)) {
                Ok(None) => {}
                Ok(Some(document)) => return Some(Ok(document)),
                Err(e) => return Some(Err(e.context(format!("{}:{}", self.path.display(), self.line)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_documents_and_mistakes_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let all = |path: &Path| Documents::open(path, "text").unwrap().collect::<Result<Vec<_>>>();
        let text = |t: &str| Document::Text(t.to_owned());
        assert_eq!(
            all(&write("a.txt", b"one\r\n\n  two \nthree")).unwrap(),
            [text("one"), text("  two "), text("three")]
        );
        let lines = b"{\"text\": \"a\\nb\"}\n\n{\"tokens\": [3, 4], \"id\": 7}\n";
        assert_eq!(all(&write("b.jsonl", lines)).unwrap(), [text("a\nb"), Document::Tokens(vec![3, 4])]);
        let told = |name: &str, bytes: &[u8]| all(&write(name, bytes)).unwrap_err().message().to_owned();
        assert!(told("c.jsonl", b"{\"text\": \"a\"}\n{\"text\"").contains("c.jsonl:2: not JSON"));
        assert!(told("d.jsonl", b"{\"txt\": \"a\"}").contains("d.jsonl:1"));
        assert!(told("e.txt", b"a\n\xff").contains("e.txt:2: not UTF-8"));
        assert!(Documents::open(folder.path().join("no.txt"), "text").err().unwrap().message().contains("no file"));
        assert!(Documents::open(folder.path().join("a.csv"), "text").err().unwrap().message().contains(".jsonl"));
    }
}
