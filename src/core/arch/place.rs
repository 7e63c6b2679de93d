//! Where something stands in a description, for messages.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// A line and a column, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl Pos {
    pub(super) fn new(line: u32, column: usize) -> Self {
        Pos { line, column: column as u32 }
    }
}

/// The name of the file that a piece of a description comes from: a child inherits pieces of its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source(Arc<str>);

impl Source {
    pub fn new(name: &str) -> Self {
        Source(name.into())
    }

    /// `llama line 12, column 3`
    pub fn at(&self, pos: Pos) -> String {
        format!("{} line {}, column {}", self.0, pos.line, pos.column)
    }

    /// A mistake in the description's text.
    pub fn error(&self, pos: Pos, message: impl std::fmt::Display) -> Error {
        self.error_of(ErrorKind::Description, pos, message)
    }

    /// Another kind of mistake that shows itself there.
    pub fn error_of(&self, kind: ErrorKind, pos: Pos, message: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}: {message}", self.at(pos)))
    }
}
