//! A file's bytes in memory without reading them: the one place in this room where the compiler must be told to trust.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::ErrorKind as Io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::error::{Error, Result, bail, err};

/// Linux maps up to this much around a page that is touched, if its cache holds the file in large pieces.
const WINDOW: usize = 2048 * 1024;

/// A read-only memory map of a whole file.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Mmap,
    path: PathBuf,
}

impl Mapping {
    /// Maps the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        // SAFETY: the map is read-only and handed out as bytes, which have no invalid values. What remains is that
        // another process may change or cut the file while it is mapped; as with every mapped checkpoint, that is
        // excluded by contract (documented at `Checkpoint`), since the alternative is to copy all weights.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| refused(path, &e))?;
        Ok(Self { map, path: path.to_owned() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the physical pages of `range` back to the system; the next access reads them from the file again.
    ///
    /// Advice only: where the system does not take it, nothing changes. The pages around the range go too, since
    /// the kernel maps an aligned window around each page it is asked for; whoever still reads them gets them anew.
    pub(super) fn release(&self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let start = range.start.saturating_sub(WINDOW);
        let len = range.end.saturating_add(WINDOW).min(self.map.len()) - start;
        #[cfg(not(unix))]
        let _ = (start, len);
        #[cfg(unix)]
        // SAFETY: for a file-backed map that nobody can write through, dropped pages come back with the same content,
        // so no slice handed out can see a change.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
    }
}

/// Opens a regular file (or a link to one). Asked before opening, since opening a named pipe would wait for its writer.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let about = std::fs::metadata(path).map_err(|e| refused(path, &e))?;
    if !about.is_file() {
        bail!(InvalidArgument, "`{}` is not a regular file", path.display());
    }
    File::open(path).map_err(|e| refused(path, &e))
}

/// The error for a file that the system would not give us.
pub(super) fn refused(path: &Path, e: &std::io::Error) -> Error {
    match e.kind() {
        Io::NotFound => err!(NotFound, "there is no file `{}`", path.display()),
        _ => err!(Io, "cannot read `{}`: {e}", path.display()),
    }
}
