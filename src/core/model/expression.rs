//! Computing what a weight rule says.

use crate::core::arch::WeightExpr;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::error::Result;

/// The value of an expression, lazily; `fetch` brings a tensor of the checkpoint.
pub(super) fn evaluate(expr: &WeightExpr, fetch: &mut dyn FnMut(&str) -> Result<Array>) -> Result<Array> {
    match expr {
        WeightExpr::Raw(name) => fetch(name),
        WeightExpr::Transpose(of) => {
            let a = evaluate(of, fetch)?;
            t::transpose(&a, &(0..a.ndim() as i32).rev().collect::<Vec<_>>())
        }
        WeightExpr::SwapLast(of) => t::swap_axes(&evaluate(of, fetch)?, -1, -2),
        WeightExpr::Squeeze(of) => {
            let a = evaluate(of, fetch)?;
            t::reshape(&a, &a.shape().iter().copied().filter(|d| *d != 1).collect::<Vec<_>>())
        }
        WeightExpr::Add(number, of) => {
            let a = evaluate(of, fetch)?;
            t::add(&a, &t::weak(*number, &a)?)
        }
        WeightExpr::Stack(list) => {
            let all = list.iter().map(|e| evaluate(e, fetch)).collect::<Result<Vec<_>>>()?;
            t::stack(&all, 0)
        }
        WeightExpr::Slice { of, axis, start, stop, step } => {
            let a = evaluate(of, fetch)?;
            let (mut from, mut to, mut by) = (vec![0; a.ndim()], a.shape().to_vec(), vec![1; a.ndim()]);
            (from[*axis], to[*axis], by[*axis]) = (*start as i32, *stop as i32, *step as i32);
            t::slice(&a, &from, &to, &by)
        }
        WeightExpr::Reshape(of, shape) => {
            t::reshape(&evaluate(of, fetch)?, &shape.iter().map(|d| *d as i32).collect::<Vec<_>>())
        }
        WeightExpr::View32(of) => t::flatten(&t::view(&evaluate(of, fetch)?, Dtype::Uint32)?, -2, -1),
        WeightExpr::UnitRows(of) => {
            let a = evaluate(of, fetch)?;
            t::div(&a, &t::norm(&a, -1, true)?)
        }
    }
}

/// Names of the checkpoint's tensors in an expression.
pub(super) fn sources(expr: &WeightExpr) -> Vec<&str> {
    match expr {
        WeightExpr::Raw(name) => vec![name],
        WeightExpr::Stack(list) => list.iter().flat_map(sources).collect(),
        WeightExpr::Slice { of, .. }
        | WeightExpr::Transpose(of)
        | WeightExpr::SwapLast(of)
        | WeightExpr::Squeeze(of)
        | WeightExpr::Add(_, of)
        | WeightExpr::Reshape(of, _)
        | WeightExpr::View32(of)
        | WeightExpr::UnitRows(of) => sources(of),
    }
}
