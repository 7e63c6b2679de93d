//! A hub of one process: the few endpoints a download speaks to, over plain HTTP on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server misbehaves.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Kind,
    /// Every request is answered with this status.
    Status(u16),
    /// Nothing is given without this token.
    Token(&'static str),
    /// Large bodies end half-way, though the header promises all.
    Cut,
    /// Files lie on another server, as large files of the hub do.
    Redirect,
    /// The commit is a path.
    HostileCommit,
}

/// A running server; it ends with the process.
pub struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Server {
    /// A server with one repository, `org/name`, at the branch `main` and its one commit.
    pub fn start(files: &[(&str, Vec<u8>)], mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files: BTreeMap<String, Vec<u8>> = files.iter().map(|(n, b)| (n.to_string(), b.clone())).collect();
        let (log, mood) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(mood)));
        let hub = Hub { files, log: log.clone(), mood: mood.clone(), address };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early is part of the tests.
                let _ = hub.serve(stream);
            }
        });
        Self { address, log, mood }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What was asked since the last call: path and range.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    log: Arc<Mutex<Vec<String>>>,
    mood: Arc<Mutex<Mood>>,
    address: SocketAddr,
}

impl Hub {
    /// Answers one request and closes the connection.
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or("").to_owned();
        let mut headers = BTreeMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let range = headers.get("range").cloned();
        self.log.lock().unwrap().push(format!("{path} {}", range.as_deref().unwrap_or("-")));
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Status(code) => return answer(&mut stream, code, &[], b"", 0),
            Mood::Token(token) if headers.get("authorization") != Some(&format!("Bearer {token}")) => {
                return answer(&mut stream, 401, &[], b"", 0);
            }
            _ => {}
        }
        if let Some(revision) = path.strip_prefix("/api/models/org/name/revision/") {
            let revision = revision.split('?').next().unwrap();
            if revision != "main" && revision != COMMIT {
                return answer(&mut stream, 404, &[], b"", 0);
            }
            let body = self.listing(mood);
            return answer(&mut stream, 200, &[], body.as_bytes(), body.len());
        }
        let resolved = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
        let Some(name) = resolved.or_else(|| path.strip_prefix("/elsewhere/")) else {
            return answer(&mut stream, 404, &[], b"", 0);
        };
        let Some(bytes) = self.files.get(name) else { return answer(&mut stream, 404, &[], b"", 0) };
        let identity = format!("etag: \"{}\"\r\nx-repo-commit: {COMMIT}", name.replace(['.', '/'], "-"));
        if mood == Mood::Redirect && resolved.is_some() {
            let location = format!("location: http://localhost:{}/elsewhere/{name}", self.address.port());
            return answer(&mut stream, 302, &[&identity, &location], b"", 0);
        }
        let range = range.unwrap_or_else(|| "bytes=0-".into());
        let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let start: usize = start.parse().unwrap();
        let end = end.parse().map_or(bytes.len(), |last: usize| last + 1);
        if start >= bytes.len() {
            return answer(&mut stream, 416, &[], b"", 0);
        }
        let part = &bytes[start..end];
        let sent = if mood == Mood::Cut && part.len() > 1000 { &part[..part.len() / 2] } else { part };
        let range = format!("content-range: bytes {start}-{}/{}", end - 1, bytes.len());
        answer(&mut stream, 206, &[&identity, &range], sent, part.len())
    }

    fn listing(&self, mood: Mood) -> String {
        let files: Vec<String> =
            self.files.iter().map(|(n, b)| format!("{{\"rfilename\":\"{n}\",\"size\":{}}}", b.len())).collect();
        let commit = if mood == Mood::HostileCommit { "../../../outside" } else { COMMIT };
        format!("{{\"sha\":\"{commit}\",\"siblings\":[{}]}}", files.join(","))
    }
}

fn answer(stream: &mut TcpStream, code: u16, headers: &[&str], body: &[u8], length: usize) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: {length}\r\nconnection: close\r\n")?;
    for header in headers {
        write!(stream, "{header}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    // In small pieces, so that progress has something to tell.
    for piece in body.chunks(4096) {
        stream.write_all(piece)?;
        stream.flush()?;
    }
    Ok(())
}
