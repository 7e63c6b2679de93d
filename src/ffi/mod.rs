//! The doors of the C ABI, one file per noun. A door is a dozen lines: check, borrow, call, hand back.
//!
//! `include/mlxterp.h` is generated from this folder; its text is the manual. Nothing outside knows this room.
#![allow(unsafe_code, non_camel_case_types, clippy::missing_safety_doc)]
#![allow(clippy::not_unsafe_ptr_arg_deref)]

mod array;
mod array_math;
mod array_ops;
mod batch;
mod cache;
mod condition;
mod door;
mod generation;
mod intervention;
mod library;
mod model;
mod opaque;
mod own;
mod registry;
mod result;
mod tool;
mod trace;

pub use array::*;
pub use array_math::*;
pub use array_ops::*;
pub use batch::*;
pub use cache::*;
pub use condition::*;
pub use generation::*;
pub use intervention::*;
pub use library::*;
pub use model::*;
pub use opaque::*;
pub use own::*;
pub use result::*;
pub use tool::*;
pub use trace::*;
