//! The key-value section of a GGUF file: values and typed getters whose errors name the key.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::error::{Result, bail, err, nearest};

/// How deep arrays of arrays may nest; real files never nest at all.
const MAX_DEPTH: usize = 4;

/// One metadata value, widened to 64 bits.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// u8, u16, u32 or u64.
    UInt(u64),
    /// i8, i16, i32 or i64.
    Int(i64),
    /// f32 or f64.
    Float(f64),
    /// true or false.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
    /// A list of one element type.
    Array(MetaArray),
}

/// A list of metadata values of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaArray {
    /// u8, u16, u32 or u64 elements.
    UInts(Vec<u64>),
    /// i8, i16, i32 or i64 elements.
    Ints(Vec<i64>),
    /// f32 or f64 elements.
    Floats(Vec<f64>),
    /// Booleans.
    Bools(Vec<bool>),
    /// Strings.
    Strs(Vec<String>),
    /// Arrays.
    Arrays(Vec<MetaArray>),
}

impl MetaArray {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::UInts(v) => v.len(),
            Self::Ints(v) => v.len(),
            Self::Floats(v) => v.len(),
            Self::Bools(v) => v.len(),
            Self::Strs(v) => v.len(),
            Self::Arrays(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl MetaValue {
    /// The value's type in words, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UInt(_) => "an unsigned integer",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Str(_) => "a string",
            Self::Array(MetaArray::UInts(_)) => "an array of unsigned integers",
            Self::Array(MetaArray::Ints(_)) => "an array of integers",
            Self::Array(MetaArray::Floats(_)) => "an array of floats",
            Self::Array(MetaArray::Bools(_)) => "an array of booleans",
            Self::Array(MetaArray::Strs(_)) => "an array of strings",
            Self::Array(MetaArray::Arrays(_)) => "an array of arrays",
        }
    }
}

/// All metadata of one file.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    values: BTreeMap<String, MetaValue>,
    origin: String,
}

impl Metadata {
    /// Metadata made of `values`; `origin` (a file name) leads every getter's error.
    pub fn new(values: BTreeMap<String, MetaValue>, origin: impl Into<String>) -> Self {
        Self { values, origin: origin.into() }
    }

    /// All keys and values, in the order of the keys.
    pub fn values(&self) -> &BTreeMap<String, MetaValue> {
        &self.values
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.values.get(key)
    }

    /// The string at `key`, if the key is there.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |v| match v {
            MetaValue::Str(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The string at `key`.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.opt_str(key)?)
    }

    /// The non-negative integer at `key`, if the key is there.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |v| match v {
            MetaValue::UInt(n) => usize::try_from(*n).ok(),
            MetaValue::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        })
    }

    /// The non-negative integer at `key`.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required(key, self.opt_usize(key)?)
    }

    /// The number at `key`, if the key is there.
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |v| match v {
            MetaValue::Float(x) => Some(*x),
            MetaValue::UInt(n) => Some(*n as f64),
            MetaValue::Int(n) => Some(*n as f64),
            _ => None,
        })
    }

    /// The number at `key`.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, self.opt_f64(key)?)
    }

    /// The boolean at `key`, if the key is there.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |v| match v {
            MetaValue::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// The boolean at `key`.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.required(key, self.opt_bool(key)?)
    }

    /// The strings at `key`, if the key is there.
    pub fn opt_strs(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |v| match v {
            MetaValue::Array(MetaArray::Strs(s)) => Some(s.as_slice()),
            MetaValue::Array(a) if a.is_empty() => Some(&[]),
            _ => None,
        })
    }

    /// The strings at `key`.
    pub fn strs(&self, key: &str) -> Result<&[String]> {
        self.required(key, self.opt_strs(key)?)
    }

    /// The integers at `key`, if the key is there.
    pub fn opt_ints(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |v| match v {
            MetaValue::Array(MetaArray::Ints(n)) => Some(n.clone()),
            MetaValue::Array(MetaArray::UInts(n)) => n.iter().map(|&n| i64::try_from(n).ok()).collect(),
            MetaValue::Array(a) if a.is_empty() => Some(Vec::new()),
            _ => None,
        })
    }

    /// The integers at `key`.
    pub fn ints(&self, key: &str) -> Result<Vec<i64>> {
        self.required(key, self.opt_ints(key)?)
    }

    /// The floats at `key`, if the key is there.
    pub fn opt_floats(&self, key: &str) -> Result<Option<&[f64]>> {
        self.typed(key, "an array of floats", |v| match v {
            MetaValue::Array(MetaArray::Floats(x)) => Some(x.as_slice()),
            MetaValue::Array(a) if a.is_empty() => Some(&[]),
            _ => None,
        })
    }

    /// The floats at `key`.
    pub fn floats(&self, key: &str) -> Result<&[f64]> {
        self.required(key, self.opt_floats(key)?)
    }

    fn typed<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a MetaValue) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match read(value) {
            Some(v) => Ok(Some(v)),
            None => Err(self.wrong(key, wanted, value)),
        }
    }

    fn wrong(&self, key: &str, wanted: &str, value: &MetaValue) -> crate::error::Error {
        let shown = match value {
            MetaValue::Array(a) => format!("{} of length {}", value.kind(), a.len()),
            MetaValue::Str(s) => format!("the string {:?}", s.chars().take(60).collect::<String>()),
            MetaValue::UInt(n) => n.to_string(),
            MetaValue::Int(n) => n.to_string(),
            MetaValue::Float(x) => format!("the float {x}"),
            MetaValue::Bool(b) => b.to_string(),
        };
        err!(Config, "{}: metadata key `{key}` should be {wanted} and is {shown}", self.origin)
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        if let Some(v) = value {
            return Ok(v);
        }
        let near = nearest(key, self.values.keys().map(String::as_str), 2);
        let hint = if near.is_empty() { String::new() } else { format!(" (there is `{}`)", near.join("`, `")) };
        bail!(Config, "{}: metadata key `{key}` is missing{hint}", self.origin)
    }
}

/// Reads `count` key-value pairs.
pub(super) fn read(r: &mut Reader, count: usize) -> Result<BTreeMap<String, MetaValue>> {
    let mut values = BTreeMap::new();
    for i in 0..count {
        let key = r.string(&format!("metadata key {i} of {count}"))?.to_owned();
        let value = value(r).map_err(|e| e.context(format!("metadata key `{key}`")))?;
        if values.insert(key.clone(), value).is_some() {
            bail!(Corrupt, "metadata key `{key}` occurs twice");
        }
    }
    Ok(values)
}

fn value(r: &mut Reader) -> Result<MetaValue> {
    let at = r.position();
    let kind = r.u32("its type")?;
    Ok(match kind {
        0 => MetaValue::UInt(r.array::<1>("its value")?[0].into()),
        1 => MetaValue::Int(i8::from_le_bytes(r.array("its value")?).into()),
        2 => MetaValue::UInt(u16::from_le_bytes(r.array("its value")?).into()),
        3 => MetaValue::Int(i16::from_le_bytes(r.array("its value")?).into()),
        4 => MetaValue::UInt(u32::from_le_bytes(r.array("its value")?).into()),
        5 => MetaValue::Int(i32::from_le_bytes(r.array("its value")?).into()),
        6 => MetaValue::Float(f32::from_le_bytes(r.array("its value")?).into()),
        7 => MetaValue::Bool(boolean(r.array::<1>("its value")?[0])?),
        8 => MetaValue::Str(r.string("its value")?.to_owned()),
        9 => MetaValue::Array(array(r, 1)?),
        10 => MetaValue::UInt(r.u64("its value")?),
        11 => MetaValue::Int(i64::from_le_bytes(r.array("its value")?)),
        12 => MetaValue::Float(f64::from_le_bytes(r.array("its value")?)),
        _ => bail!(Corrupt, "value type {kind} at offset {at} does not exist (0 to 12 do)"),
    })
}

fn boolean(byte: u8) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => bail!(Corrupt, "a boolean is 0 or 1, this byte is {byte}"),
    }
}

fn array(r: &mut Reader, depth: usize) -> Result<MetaArray> {
    if depth > MAX_DEPTH {
        bail!(Corrupt, "arrays nest deeper than {MAX_DEPTH}");
    }
    let at = r.position();
    let kind = r.u32("the element type of an array")?;
    let least = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => bail!(Corrupt, "array element type {kind} at offset {at} does not exist (0 to 12 do)"),
    };
    let n = r.count(least, "the length of an array")?;
    Ok(match kind {
        0 => MetaArray::UInts(numbers(r, n, |b: [u8; 1]| b[0].into())?),
        1 => MetaArray::Ints(numbers(r, n, |b| i8::from_le_bytes(b).into())?),
        2 => MetaArray::UInts(numbers(r, n, |b| u16::from_le_bytes(b).into())?),
        3 => MetaArray::Ints(numbers(r, n, |b| i16::from_le_bytes(b).into())?),
        4 => MetaArray::UInts(numbers(r, n, |b| u32::from_le_bytes(b).into())?),
        5 => MetaArray::Ints(numbers(r, n, |b| i32::from_le_bytes(b).into())?),
        6 => MetaArray::Floats(numbers(r, n, |b| f32::from_le_bytes(b).into())?),
        7 => MetaArray::Bools(r.take(n, "an array of booleans")?.iter().map(|&b| boolean(b)).collect::<Result<_>>()?),
        8 => {
            let mut strings = Vec::with_capacity(n);
            for _ in 0..n {
                strings.push(r.string("a string of an array")?.to_owned());
            }
            MetaArray::Strs(strings)
        }
        9 => MetaArray::Arrays((0..n).map(|_| array(r, depth + 1)).collect::<Result<_>>()?),
        10 => MetaArray::UInts(numbers(r, n, u64::from_le_bytes)?),
        11 => MetaArray::Ints(numbers(r, n, i64::from_le_bytes)?),
        _ => MetaArray::Floats(numbers(r, n, f64::from_le_bytes)?),
    })
}

fn numbers<const N: usize, T>(r: &mut Reader, n: usize, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    // `n` elements of `N` bytes were found to fit, so the product cannot overflow.
    let (chunks, _) = r.take(n * N, "the elements of an array")?.as_chunks::<N>();
    Ok(chunks.iter().map(|&b| read(b)).collect())
}
