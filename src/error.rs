//! One error type for the whole library.
//!
//! A message names the value that was wrong, where it stood, and the way out.

use std::fmt;

/// What kind of thing went wrong; front ends map each kind to one status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument that can never be right: NULL, bad UTF-8, an empty prompt, a number out of range.
    InvalidArgument,
    /// A file, a directory, a tensor or a repository that is not there.
    NotFound,
    /// The operating system or the network refused.
    Io,
    /// A file whose bytes contradict themselves (truncated, bad header, impossible offsets).
    Corrupt,
    /// A well-formed request for something this library cannot do (an unknown `model_type`, a dtype).
    Unsupported,
    /// A missing or absurd value in `config.json` or in a description's `config:` section.
    Config,
    /// A mistake in an architecture description, with line and column.
    Description,
    /// Two shapes that cannot meet.
    Shape,
    /// No site of that name.
    UnknownSite,
    /// A write behind a value that was already handed to the user.
    StaleWrite,
    /// A strict trace in which a write changed or reached nothing.
    Strict,
    /// A user's callback returned an error.
    Callback,
    /// The object is in use by a call further up the stack.
    Busy,
    /// MLX refused or failed.
    Backend,
    /// The data was asked for before it was evaluated.
    NotEvaluated,
    /// An expert that no token of the run was routed to.
    NotExecuted,
    /// A bug in this library: a panic caught at the boundary.
    Panic,
}

/// An error with its kind and a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error from its kind and a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error, its message led by where it happened: `context: message`.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Builds an [`Error`]: `err!(Corrupt, "header of {} bytes", n)`.
macro_rules! err {
    ($kind:ident, $($arg:tt)*) => {
        $crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($arg)*))
    };
}

/// Returns early with an [`Error`].
macro_rules! bail {
    ($kind:ident, $($arg:tt)*) => {
        return Err($crate::error::err!($kind, $($arg)*))
    };
}

pub(crate) use {bail, err};

/// The `n` names nearest to `name`, for "did you mean" (edit distance, ties in the given order).
pub(crate) fn nearest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>, n: usize) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = among.into_iter().map(|c| (distance(name, c), c)).collect();
    scored.sort_by_key(|(d, _)| *d);
    let limit = name.len().max(3) / 2 + 1;
    scored.into_iter().filter(|(d, _)| *d <= limit).take(n).map(|(_, c)| c).collect()
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_offers_close_names_only() {
        let names = ["layers.29.mlp", "layers.29.attn", "embed"];
        assert_eq!(nearest("layers.99.mlp", names, 1), ["layers.29.mlp"]);
        assert!(nearest("zzzzzzzzzzzzzzzzzzz", names, 1).is_empty());
    }
}
