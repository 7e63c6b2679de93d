//! What each write did.

use serde::Serialize;

use super::batch::Batch;
use super::edit::{Change, Edit};
use crate::core::model::Inner;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::Result;

/// What one write changed, and whether it mattered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Receipt {
    /// Full name of the site.
    pub site: String,
    /// What was written: `value` or the intervention in words.
    pub change: String,
    /// Generation step; 0 in a plain forward.
    pub step: usize,
    /// Rows in which anything changed.
    pub rows: Vec<usize>,
    /// Positions at which anything changed in some row, padding left out. Empty for sites without positions.
    pub positions: Vec<usize>,
    /// Euclidean norm of new minus old, padding left out.
    pub change_norm: f64,
    /// Whether any value that was read depends on the site.
    pub reached: bool,
}

pub(super) fn write_out(
    edits: &[Edit],
    reached: &[bool],
    batch: &Batch,
    model: &Inner,
    step: usize,
) -> Result<Vec<Receipt>> {
    let all = edits.iter().zip(reached).map(|(e, reached)| one(e, *reached, batch, model, step));
    all.collect()
}

fn one(edit: &Edit, reached: bool, batch: &Batch, model: &Inner, step: usize) -> Result<Receipt> {
    let change = match &edit.change {
        Change::Value(_) => "value".to_owned(),
        Change::Intervention(i) => match &edit.gate {
            Some(gate) => format!("{i} {}", gate.condition),
            None => i.to_string(),
        },
    };
    let mut receipt = Receipt {
        site: edit.name(model),
        change,
        step,
        rows: Vec::new(),
        positions: Vec::new(),
        change_norm: 0.0,
        reached,
    };
    let (Some(base), Some(after)) = (&edit.base, &edit.after) else { return Ok(receipt) };
    let position = model.position_axis(edit.site, base.ndim());
    let squares = squares_by_position(base, after, position, model.has_rows(edit.site, base.ndim()))?;
    let (rows, width) = (squares.dim(0), squares.dim(1));
    let squares = squares.to_vec::<f32>()?;
    let mut total = 0.0;
    for row in 0..rows {
        let own = if width == batch.width() { batch.lengths().get(row).copied().unwrap_or(width) } else { width };
        for p in 0..own {
            let s = f64::from(squares[row * width + p]);
            // NaN counts as a change.
            if s != 0.0 {
                total += s;
                receipt.rows.push(row);
                if position.is_some() && width == batch.width() {
                    receipt.positions.push(p);
                }
            }
        }
    }
    receipt.rows.dedup();
    receipt.positions.sort_unstable();
    receipt.positions.dedup();
    receipt.change_norm = total.sqrt();
    Ok(receipt)
}

/// `[rows, positions]`: the squared change summed over all other axes.
fn squares_by_position(base: &Array, after: &Array, position: Option<usize>, has_rows: bool) -> Result<Array> {
    let (base, after) = (tensor::cast(base, Dtype::Float32)?, tensor::cast(after, Dtype::Float32)?);
    // The most negative finite scores overflow when squared; an equal pair must still give 0.
    let mut s = tensor::square(&tensor::sub(&after, &base)?)?;
    if position.is_none() && !has_rows {
        return tensor::reshape(&tensor::sum_all(&s)?, &[1, 1]);
    }
    for axis in (1..s.ndim()).rev().filter(|a| Some(*a) != position) {
        s = tensor::sum(&s, axis as i32, true)?;
    }
    tensor::reshape(&s, &[base.dim(0) as i32, position.map_or(1, |p| base.dim(p as i32) as i32)])
}
