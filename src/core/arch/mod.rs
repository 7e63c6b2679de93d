//! The description language: text to a checked description, description and checkpoint to a tape.

mod ast;
mod check;
mod choice;
mod config;
mod description;
mod elaborate;
mod expressions;
mod fit;
mod lexer;
pub mod library;
mod parser;
mod pattern;
mod place;
mod rules;
mod signatures;
mod storage;
pub mod tape;
mod weights;

pub use config::normalise;
pub use description::Description;
pub use elaborate::elaborate;
pub use fit::{Fit, Near, Suggestion, suggest};
pub use library::{for_model_type, supported};
pub use place::Pos;
pub use storage::{Blocks, Packed};
pub use weights::{TensorInfo, WeightExpr, plan_weights, with_layout};

#[cfg(test)]
mod tests;
