//! safetensors: an 8-byte length, a JSON header of that length, and the tensors' bytes without a gap.
//!
//! The header is checked here rather than by the `safetensors` crate because an error has to name the tensor and the
//! numbers, and because a name that occurs twice must not pass. The rules are the format's own.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::mapping::Mapping;
use super::raw::{RawDtype, RawTensor};
use crate::error::{Result, bail, err};

/// The limit that the format's reference implementation sets, too.
const MAX_HEADER: u64 = 100_000_000;
const METADATA: &str = "__metadata__";

/// One tensor of a header; the range counts from the start of the file.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    dtype: RawDtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// Maps a safetensors file and names its tensors.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, RawTensor>> {
    let file = Arc::new(Mapping::open(path)?);
    let entries = parse(file.bytes()).map_err(|e| e.context(path.display()))?;
    file.release(0..header(file.bytes())?.1);
    let tensors = entries.into_iter().map(|(name, e)| (name, RawTensor::new(e.dtype, e.shape, e.range, file.clone())));
    Ok(tensors.collect())
}

/// The texts of a file's `__metadata__`; anything else there is an error, as the format has it.
pub(super) fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let file = Mapping::open(path)?;
    let read = || {
        let fields: Fields = serde_json::from_slice(header(file.bytes())?.0)
            .map_err(|e| err!(Corrupt, "the header is not the JSON it should be: {e}"))?;
        let Some(value) = fields.0.get(METADATA) else { return Ok(BTreeMap::new()) };
        let texts = value.as_object().and_then(|all| {
            all.iter().map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect::<Option<BTreeMap<_, _>>>()
        });
        texts.ok_or_else(|| err!(Corrupt, "its `{METADATA}` is not an object of texts"))
    };
    read().map_err(|e| e.context(path.display()))
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let (header, data_start) = header(bytes)?;
    let fields: Fields = serde_json::from_slice(header)
        .map_err(|e| err!(Corrupt, "the header of {} bytes is not the JSON it should be: {e}", header.len()))?;
    let mut entries = BTreeMap::new();
    for (name, value) in fields.0 {
        if name == METADATA {
            continue;
        }
        let entry = entry(&value, data_start, bytes.len()).map_err(|e| e.context(format!("tensor `{name}`")))?;
        entries.insert(name, entry);
    }
    refuse_gaps(&entries, data_start, bytes.len())?;
    Ok(entries)
}

/// The header's bytes, and where the data begin.
fn header(bytes: &[u8]) -> Result<(&[u8], usize)> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        bail!(Corrupt, "the file has {} bytes, too few for a safetensors header", bytes.len());
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        bail!(Corrupt, "the header claims {length} bytes (at most {MAX_HEADER}); this is not a safetensors file");
    }
    // At most MAX_HEADER, so it fits every usize.
    let length = length as usize;
    match rest.get(..length) {
        Some(header) => Ok((header, 8 + length)),
        None => bail!(
            Corrupt,
            "the header claims {length} bytes, but only {} follow; is the download complete?",
            rest.len()
        ),
    }
}

fn entry(value: &Value, data_start: usize, file_len: usize) -> Result<Entry> {
    let name = field(value, "dtype")?.as_str().ok_or_else(|| err!(Corrupt, "its `dtype` is not a string"))?;
    let Some((dtype, size)) = RawDtype::from_safetensors(name) else {
        bail!(Corrupt, "its dtype `{name}` is not one that is known");
    };
    let shape = sizes(field(value, "shape")?, "shape")?;
    let offsets = sizes(field(value, "data_offsets")?, "data_offsets")?;
    let &[begin, end] = offsets.as_slice() else {
        bail!(Corrupt, "its `data_offsets` has {} numbers, not 2", offsets.len());
    };
    let len = shape
        .iter()
        .try_fold(size, |n, &d| n.checked_mul(d))
        .ok_or_else(|| err!(Corrupt, "its shape {shape:?} has more bytes than this machine can address"))?;
    if end.checked_sub(begin) != Some(len) {
        bail!(Corrupt, "{name} of shape {shape:?} takes {len} bytes, but its `data_offsets` are [{begin}, {end}]");
    }
    match data_start.checked_add(end) {
        Some(stop) if stop <= file_len => Ok(Entry { dtype, shape, range: data_start + begin..stop }),
        _ => bail!(
            Corrupt,
            "its `data_offsets` [{begin}, {end}] reach behind the {} bytes of data in the file; is the download \
             complete?",
            file_len - data_start
        ),
    }
}

fn field<'a>(value: &'a Value, key: &str) -> Result<&'a Value> {
    value.get(key).ok_or_else(|| err!(Corrupt, "its entry in the header has no `{key}`"))
}

fn sizes(value: &Value, key: &str) -> Result<Vec<usize>> {
    let numbers = value.as_array().and_then(|list| {
        list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect::<Option<Vec<_>>>()
    });
    numbers.ok_or_else(|| err!(Corrupt, "its `{key}` is not a list of non-negative integers"))
}

/// The format wants every byte of data to belong to exactly one tensor.
fn refuse_gaps(entries: &BTreeMap<String, Entry>, data_start: usize, file_len: usize) -> Result<()> {
    let mut order: Vec<(&str, &Range<usize>)> = entries.iter().map(|(n, e)| (n.as_str(), &e.range)).collect();
    order.sort_by_key(|(_, r)| (r.start, r.end));
    let (mut end, mut before) = (data_start, None);
    for (name, range) in order {
        let after = before.map_or("the header".to_owned(), |b| format!("tensor `{b}`"));
        if range.start < end {
            bail!(Corrupt, "tensor `{name}` overlaps {after}, which ends {} bytes into it", end - range.start);
        }
        if range.start > end {
            bail!(Corrupt, "{} bytes between {after} and tensor `{name}` belong to no tensor", range.start - end);
        }
        (end, before) = (range.end, Some(name));
    }
    if end != file_len {
        bail!(Corrupt, "the last {} bytes of the file belong to no tensor", file_len - end);
    }
    Ok(())
}

/// The header's top level; unlike a map it refuses a key that comes twice.
struct Fields(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Top;
        impl<'de> Visitor<'de> for Top {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&key) {
                        return Err(serde::de::Error::custom(format!("tensor `{key}` occurs twice")));
                    }
                    fields.insert(key, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Top)
    }
}

#[cfg(test)]
mod tests;
