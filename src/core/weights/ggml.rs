//! ggml's element types: their numbers in a file, and how many elements and bytes a block holds.

use std::fmt;

use crate::error::{Result, bail, err};

macro_rules! types {
    ($($name:ident = $id:literal, $block:literal, $bytes:literal;)*) => {
        /// An element type of a GGUF tensor, by ggml's own name.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum GgmlType { $($name),* }

        impl GgmlType {
            /// All types.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The type numbered `id` in a file.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The type's number in a file.
            pub fn id(self) -> u32 {
                match self { $(Self::$name => $id),* }
            }

            /// Elements per block; 1 for plain types.
            pub fn block_len(self) -> usize {
                match self { $(Self::$name => $block),* }
            }

            /// Bytes per block.
            pub fn block_bytes(self) -> usize {
                match self { $(Self::$name => $bytes),* }
            }

            /// ggml's name for it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

// Numbers that are missing here (4, 5, 31 to 33, 36 to 38) belonged to types that ggml has removed.
types! {
    F32 = 0, 1, 4;
    F16 = 1, 1, 2;
    Q4_0 = 2, 32, 18;
    Q4_1 = 3, 32, 20;
    Q5_0 = 6, 32, 22;
    Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34;
    Q8_1 = 9, 32, 36;
    Q2_K = 10, 256, 84;
    Q3_K = 11, 256, 110;
    Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176;
    Q6_K = 14, 256, 210;
    Q8_K = 15, 256, 292;
    IQ2_XXS = 16, 256, 66;
    IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98;
    IQ1_S = 19, 256, 50;
    IQ4_NL = 20, 32, 18;
    IQ3_S = 21, 256, 110;
    IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136;
    I8 = 24, 1, 1;
    I16 = 25, 1, 2;
    I32 = 26, 1, 4;
    I64 = 27, 1, 8;
    F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56;
    BF16 = 30, 1, 2;
    TQ1_0 = 34, 256, 54;
    TQ2_0 = 35, 256, 66;
    MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36;
    Q1_0 = 41, 128, 18;
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl GgmlType {
    /// Bytes that a tensor of `shape` (outermost dimension first) takes.
    pub fn byte_len(self, shape: &[usize]) -> Result<usize> {
        let columns = shape.last().copied().unwrap_or(1);
        if !columns.is_multiple_of(self.block_len()) {
            bail!(
                Corrupt,
                "rows of {columns} elements do not divide into {self} blocks of {} elements",
                self.block_len()
            );
        }
        let too_large = || err!(Corrupt, "shape {shape:?} has more elements than this machine can address");
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(too_large)?;
        (elements / self.block_len()).checked_mul(self.block_bytes()).ok_or_else(too_large)
    }
}
