//! One tensor as it lies in a file: element type, shape, bytes.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::ggml::GgmlType;
use super::mapping::Mapping;
use crate::core::tensor::Dtype;

/// An element type as the file states it; a backend decides which of them it takes.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RawDtype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned integers.
    U8,
    /// Unsigned integers.
    U16,
    /// Unsigned integers.
    U32,
    /// Unsigned integers.
    U64,
    /// Signed integers.
    I8,
    /// Signed integers.
    I16,
    /// Signed integers.
    I32,
    /// Signed integers.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of a float32.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Eight-bit floats with four bits of exponent.
    F8_E4M3,
    /// Eight-bit floats with five bits of exponent.
    F8_E5M2,
    /// Eight bits of exponent: the scales of microscaled formats.
    F8_E8M0,
    /// Two float32, real and imaginary.
    C64,
    /// A type of ggml's, from a GGUF file; plain ones (F32, I8 …) included.
    Ggml(GgmlType),
}

impl RawDtype {
    /// All types of safetensors files with their names there.
    const SAFETENSORS: [(&'static str, Self, usize); 17] = [
        ("BOOL", Self::Bool, 1),
        ("U8", Self::U8, 1),
        ("U16", Self::U16, 2),
        ("U32", Self::U32, 4),
        ("U64", Self::U64, 8),
        ("I8", Self::I8, 1),
        ("I16", Self::I16, 2),
        ("I32", Self::I32, 4),
        ("I64", Self::I64, 8),
        ("F16", Self::F16, 2),
        ("BF16", Self::BF16, 2),
        ("F32", Self::F32, 4),
        ("F64", Self::F64, 8),
        ("F8_E4M3", Self::F8_E4M3, 1),
        ("F8_E5M2", Self::F8_E5M2, 1),
        ("F8_E8M0", Self::F8_E8M0, 1),
        ("C64", Self::C64, 8),
    ];

    /// The dtype in which MLX holds it as it is; none for types that only a format knows. Eight-bit floats are bytes.
    pub fn held(self) -> Option<Dtype> {
        Some(match self {
            Self::Bool => Dtype::Bool,
            Self::U8 | Self::F8_E4M3 | Self::F8_E5M2 | Self::F8_E8M0 => Dtype::Uint8,
            Self::U16 => Dtype::Uint16,
            Self::U32 => Dtype::Uint32,
            Self::U64 => Dtype::Uint64,
            Self::I8 => Dtype::Int8,
            Self::I16 => Dtype::Int16,
            Self::I32 => Dtype::Int32,
            Self::I64 => Dtype::Int64,
            Self::F16 => Dtype::Float16,
            Self::BF16 => Dtype::Bfloat16,
            Self::F32 => Dtype::Float32,
            Self::F64 | Self::C64 | Self::Ggml(_) => return None,
        })
    }

    /// The type and its size in bytes by its name in a safetensors header.
    pub(super) fn from_safetensors(name: &str) -> Option<(Self, usize)> {
        Self::SAFETENSORS.iter().find(|(n, ..)| *n == name).map(|&(_, dtype, size)| (dtype, size))
    }
}

impl fmt::Display for RawDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ggml(kind) => write!(f, "{kind}"),
            other => {
                let found = Self::SAFETENSORS.iter().find(|(_, dtype, _)| dtype == other);
                f.write_str(found.map_or("?", |(name, ..)| name))
            }
        }
    }
}

/// A tensor in a mapped file; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct RawTensor {
    dtype: RawDtype,
    shape: Vec<usize>,
    range: Range<usize>,
    file: Arc<Mapping>,
}

impl RawTensor {
    /// A tensor at `range` of `file`; the caller has checked that the range is inside and fits dtype and shape.
    pub(super) fn new(dtype: RawDtype, shape: Vec<usize>, range: Range<usize>, file: Arc<Mapping>) -> Self {
        debug_assert!(range.end <= file.bytes().len());
        Self { dtype, shape, range, file }
    }

    /// The element type.
    pub fn dtype(&self) -> RawDtype {
        self.dtype
    }

    /// The shape, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, little-endian, row-major. They may begin at any address: copy them, or read element by element.
    pub fn bytes(&self) -> &[u8] {
        &self.file.bytes()[self.range.clone()]
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives the memory that reading this tensor took back to the system. Call it once the backend has its copy, so
    /// that the file's pages and the backend's never add up; the bytes can still be read again.
    pub fn release_pages(&self) {
        self.file.release(self.range.clone());
    }
}
