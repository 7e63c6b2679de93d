//! The header of a GGUF file, parsed as what it is: bytes from a stranger.
//!
//! Layout: magic, version, two counts, metadata, tensor descriptions, padding, data. Every length, count, type and
//! offset is checked before it is used; nothing is reserved that the file could not fill.

use std::collections::HashSet;
use std::ops::Range;

use super::ggml::GgmlType;
use super::metadata::{self, Metadata};
use super::reader::Reader;
use crate::error::{Result, bail, err};

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: usize = 32;
/// ggml's own limit.
const MAX_DIMENSIONS: u32 = 4;

/// A parsed GGUF header.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// The file's version, 2 or 3.
    pub version: u32,
    /// Everything in the key-value section.
    pub metadata: Metadata,
    /// The tensors in file order.
    pub tensors: Vec<GgufTensor>,
    /// Where the header ends and the data begin.
    pub data_start: usize,
}

/// Where one tensor lies and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// The name in the file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Its element type.
    pub kind: GgmlType,
    /// Its shape, outermost dimension first (the file stores the reverse).
    pub shape: Vec<usize>,
    /// Its bytes, counted from the start of the file; checked to lie inside it.
    pub range: Range<usize>,
}

impl Gguf {
    /// Parses a whole file's bytes; `origin` is the file's name for messages.
    pub fn parse(bytes: &[u8], origin: &str) -> Result<Self> {
        parse(bytes, origin).map_err(|e| e.context(origin))
    }
}

fn parse(bytes: &[u8], origin: &str) -> Result<Gguf> {
    let mut r = Reader::new(bytes);
    let magic = r.array::<4>("the magic number")?;
    if &magic != MAGIC {
        bail!(Corrupt, "this is not a GGUF file: it begins with {:?}, not \"GGUF\"", magic.escape_ascii().to_string());
    }
    let version = version(r.u32("the version")?)?;
    // A tensor description takes at least 24 bytes, a key-value pair 13.
    let tensor_count = r.count(24, "the tensor count")?;
    let pair_count = r.count(13, "the metadata count")?;
    let metadata = Metadata::new(metadata::read(&mut r, pair_count)?, origin);
    let alignment = alignment(&metadata)?;

    let described = (0..tensor_count).map(|i| description(&mut r, i, tensor_count)).collect::<Result<Vec<_>>>()?;
    let data_start = r
        .position()
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| err!(Corrupt, "`general.alignment` of {alignment} is absurd"))?;

    let mut tensors = Vec::with_capacity(tensor_count);
    let mut names = HashSet::new();
    for d in described {
        if !names.insert(d.name.clone()) {
            bail!(Corrupt, "tensor `{}` occurs twice", d.name);
        }
        let name = d.name.clone();
        tensors.push(d.place(data_start, alignment, bytes.len()).map_err(|e| e.context(format!("tensor `{name}`")))?);
    }
    refuse_overlap(&tensors)?;
    Ok(Gguf { version, metadata, tensors, data_start })
}

fn version(version: u32) -> Result<u32> {
    match version {
        2 | 3 => Ok(version),
        1 => bail!(Unsupported, "GGUF version 1 is obsolete; convert the model again (versions 2 and 3 are read)"),
        v if matches!(v.swap_bytes(), 1..=3) => {
            bail!(Unsupported, "a big-endian GGUF file; convert the model again for little-endian machines")
        }
        v => bail!(Corrupt, "GGUF version {v} is unknown (versions 2 and 3 are read)"),
    }
}

fn alignment(metadata: &Metadata) -> Result<usize> {
    let n = metadata.opt_usize("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !n.is_power_of_two() {
        bail!(Corrupt, "`general.alignment` must be a power of two and is {n}");
    }
    Ok(n)
}

/// A tensor description as it stands in the file.
struct Description {
    name: String,
    kind: GgmlType,
    shape: Vec<usize>,
    offset: u64,
}

fn description(r: &mut Reader, i: usize, count: usize) -> Result<Description> {
    let name = r.string(&format!("the name of tensor {i} of {count}"))?.to_owned();
    fields(r, name.clone()).map_err(|e| e.context(format!("tensor `{name}` ({i} of {count})")))
}

fn fields(r: &mut Reader, name: String) -> Result<Description> {
    let dimensions = r.u32("its number of dimensions")?;
    if dimensions > MAX_DIMENSIONS {
        bail!(Corrupt, "{dimensions} dimensions (ggml has at most {MAX_DIMENSIONS})");
    }
    let mut shape = Vec::with_capacity(MAX_DIMENSIONS as usize);
    for _ in 0..dimensions {
        let d = r.u64("a dimension")?;
        match usize::try_from(d) {
            Ok(d) if d > 0 => shape.push(d),
            _ => bail!(Corrupt, "a dimension of {d} elements"),
        }
    }
    shape.reverse();
    let id = r.u32("its type")?;
    let kind = GgmlType::from_id(id).ok_or_else(|| err!(Corrupt, "element type {id} is not one that is known"))?;
    Ok(Description { name, kind, shape, offset: r.u64("its offset")? })
}

impl Description {
    /// Finds the bytes in the file and checks that they are there.
    fn place(self, data_start: usize, alignment: usize, file_len: usize) -> Result<GgufTensor> {
        let Self { name, kind, shape, offset } = self;
        let len = kind.byte_len(&shape)?;
        if !offset.is_multiple_of(alignment as u64) {
            bail!(Corrupt, "its offset {offset} is not a multiple of the alignment {alignment}");
        }
        let start = usize::try_from(offset).ok().and_then(|o| data_start.checked_add(o));
        match start.and_then(|s| Some(s..s.checked_add(len)?)) {
            Some(range) if range.end <= file_len => Ok(GgufTensor { name, kind, shape, range }),
            _ => bail!(
                Corrupt,
                "its {len} bytes ({kind}, shape {shape:?}) at data offset {offset} end behind the file, which has \
                 {file_len} bytes (data begin at {data_start}); is the download complete?"
            ),
        }
    }
}

fn refuse_overlap(tensors: &[GgufTensor]) -> Result<()> {
    let mut order: Vec<&GgufTensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.range.start, t.range.end));
    for pair in order.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            bail!(Corrupt, "tensors `{}` and `{}` overlap in the file", pair[0].name, pair[1].name);
        }
    }
    Ok(())
}

mod write;

pub use write::GgufFile;

#[cfg(test)]
mod tests;
