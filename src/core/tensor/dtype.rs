//! Element types.

use crate::error::{Result, bail};

/// The element type of an array. The numbers are part of the C ABI and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool = 0,
    /// Unsigned 8 bit.
    Uint8 = 1,
    /// Unsigned 16 bit.
    Uint16 = 2,
    /// Unsigned 32 bit.
    Uint32 = 3,
    /// Unsigned 64 bit.
    Uint64 = 4,
    /// Signed 8 bit.
    Int8 = 5,
    /// Signed 16 bit.
    Int16 = 6,
    /// Signed 32 bit.
    Int32 = 7,
    /// Signed 64 bit.
    Int64 = 8,
    /// IEEE half.
    Float16 = 9,
    /// IEEE single.
    Float32 = 10,
    /// IEEE double (CPU only).
    Float64 = 11,
    /// The upper half of an IEEE single.
    Bfloat16 = 12,
    /// Two singles.
    Complex64 = 13,
}

/// All dtypes with their names, in the order of their numbers.
const ALL: [(Dtype, &str, usize); 14] = [
    (Dtype::Bool, "bool", 1),
    (Dtype::Uint8, "uint8", 1),
    (Dtype::Uint16, "uint16", 2),
    (Dtype::Uint32, "uint32", 4),
    (Dtype::Uint64, "uint64", 8),
    (Dtype::Int8, "int8", 1),
    (Dtype::Int16, "int16", 2),
    (Dtype::Int32, "int32", 4),
    (Dtype::Int64, "int64", 8),
    (Dtype::Float16, "float16", 2),
    (Dtype::Float32, "float32", 4),
    (Dtype::Float64, "float64", 8),
    (Dtype::Bfloat16, "bfloat16", 2),
    (Dtype::Complex64, "complex64", 8),
];

impl Dtype {
    /// The dtype of a number of the C ABI.
    pub fn from_number(n: u32) -> Result<Self> {
        match ALL.get(n as usize) {
            Some((d, ..)) => Ok(*d),
            None => bail!(InvalidArgument, "dtype {n} does not exist: the largest is {}", ALL.len() - 1),
        }
    }

    /// The dtype of a name such as `float32`.
    pub fn from_name(name: &str) -> Result<Self> {
        match ALL.iter().find(|(_, n, _)| *n == name) {
            Some((d, ..)) => Ok(*d),
            None => bail!(InvalidArgument, "no dtype '{name}': use one of {}", ALL.map(|(_, n, _)| n).join(", ")),
        }
    }

    /// Its name, as numpy and MLX spell it.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        ALL[self as usize].2
    }

    /// Whether it is a real floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::Float16 | Dtype::Float32 | Dtype::Float64 | Dtype::Bfloat16)
    }

    /// Whether it is an integer type.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Dtype::Bool | Dtype::Complex64)
    }

    /// The most negative finite number of a floating-point type, `-inf` for the others.
    pub fn lowest(self) -> f64 {
        match self {
            Dtype::Float16 => half::f16::MIN.to_f64(),
            Dtype::Bfloat16 => half::bf16::MIN.to_f64(),
            Dtype::Float32 => f64::from(f32::MIN),
            Dtype::Float64 => f64::MIN,
            _ => f64::NEG_INFINITY,
        }
    }

    pub(super) fn raw(self) -> mlx_sys::mlx_dtype {
        mlx_rs::Dtype::from(self).into()
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Pairs each dtype with mlx-rs's of the same meaning, in both directions.
macro_rules! pair_with_mlx {
    ($($name:ident)*) => {
        impl From<mlx_rs::Dtype> for Dtype {
            fn from(d: mlx_rs::Dtype) -> Self { match d { $(mlx_rs::Dtype::$name => Dtype::$name),* } }
        }
        impl From<Dtype> for mlx_rs::Dtype {
            fn from(d: Dtype) -> Self { match d { $(Dtype::$name => mlx_rs::Dtype::$name),* } }
        }
    };
}
pair_with_mlx!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Float16 Float32 Float64 Bfloat16 Complex64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_names_and_mlx_agree() {
        for (i, (d, name, _)) in ALL.iter().enumerate() {
            assert_eq!(Dtype::from_number(i as u32).unwrap(), *d);
            assert_eq!(Dtype::from_name(name).unwrap(), *d);
            assert_eq!(Dtype::from(mlx_rs::Dtype::from(*d)), *d);
        }
        assert!(Dtype::from_number(14).is_err());
        assert!(Dtype::from_name("float8").unwrap_err().message().contains("float16"));
    }
}
