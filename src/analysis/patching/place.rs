//! A value put into part of another, row by row.

use super::cells::Cell;
use crate::core::arch::tape::Layout;
use crate::core::tensor::{self, Array};
use crate::core::trace::Trace;
use crate::error::{Result, bail};

/// What becomes of rows once they were run, with the metric of each.
pub(super) type Keep<'a> = dyn FnMut(&[Row<'_>], Vec<f32>) -> Result<()> + 'a;

/// One row of a batch: what is patched in the run of which prompt.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub cell: &'a Cell,
    /// Number of the cell.
    pub number: usize,
    pub prompt: usize,
}

impl Row<'_> {
    /// The positions patched.
    pub fn positions(&self) -> &[usize] {
        &self.cell.positions[self.prompt]
    }

    fn is_active(&self, layer: usize) -> bool {
        (self.cell.first..=self.cell.last).contains(&layer)
    }
}

/// `old` of a batch whose columns begin at position `cut`, with `value` (a row a prompt, or one for all; whole prompts)
/// where the rows say so at a layer. Nothing when no row does.
pub(super) fn patched(
    old: &Array,
    layout: Layout,
    rows: &[Row<'_>],
    layer: usize,
    cut: usize,
    value: &Array,
) -> Result<Option<Array>> {
    let active = |r: &&Row<'_>| r.is_active(layer);
    let Some(from) = rows.iter().position(|r| active(&r)) else { return Ok(None) };
    let to = rows.iter().rposition(|r| active(&r)).unwrap_or(from) + 1;
    let Some(axis) = axis(layout, "position").filter(|_| old.ndim() == value.ndim() && old.dim(0) == rows.len()) else {
        bail!(Unsupported, "a value of shape {:?} has no rows and positions to patch", old.shape());
    };
    let some = &rows[from..to];
    let part = tensor::split_at(old, &[from as i32, to as i32], 0)?.swap_remove(1);
    let new = of_prompts(value, some)?;
    let (mut start, mut stop) = (vec![0; new.ndim()], new.shape().to_vec());
    (start[axis], stop[axis]) = (cut as i32, (cut + old.dim(axis as i32)) as i32);
    if let Some(keys) = self::axis(layout, "key") {
        stop[keys] = old.shape()[keys];
    }
    let new = tensor::slice(&new, &start, &stop, &vec![1; start.len()])?;
    let mask = mask(&part, layout, axis, some, layer, cut)?;
    let new = tensor::select(&mask, &tensor::cast(&new, part.dtype())?, &part)?;
    let ends = tensor::split_at(old, &[from as i32, to as i32], 0)?;
    let parts = [(from > 0).then_some(&ends[0]), Some(&new), (to < rows.len()).then_some(&ends[2])];
    tensor::concatenate(parts.into_iter().flatten(), 0).map(Some)
}

/// Computes what lies below a layer, once for all forks of a run, where it has a row for each prompt. Where it has not
/// (streams on an axis of their own), nothing is built, so that forks start from the tokens.
pub(super) fn share_below(trace: &Trace, layer: usize) -> Result<()> {
    let name = format!("layers.{layer}.input");
    match trace.fork()?.get(&name) {
        Ok(input) if input.ndim() == 3 && input.dim(0) == trace.batch()?.len() => trace.get(&name)?.eval(),
        _ => Ok(()),
    }
}

/// Each row's prompt's row of `value`.
pub(super) fn of_prompts(value: &Array, rows: &[Row<'_>]) -> Result<Array> {
    let row = |r: &Row<'_>| if value.dim(0) == 1 { 0 } else { r.prompt as u32 };
    let which: Vec<u32> = rows.iter().map(row).collect();
    tensor::take(value, &Array::from_slice(&which, &[which.len()])?, 0)
}

/// Where an axis of this meaning stands.
pub(super) fn axis(layout: Layout, name: &str) -> Option<usize> {
    layout.axes().iter().position(|n| *n == name)
}

/// True where the rows are patched.
fn mask(part: &Array, layout: Layout, axis: usize, rows: &[Row<'_>], layer: usize, cut: usize) -> Result<Array> {
    let along = |at: usize, chosen: &dyn Fn(&Row<'_>, usize) -> bool| {
        let n = part.dim(at as i32);
        let marks: Vec<bool> = rows.iter().flat_map(|r| (0..n).map(|i| chosen(r, i)).collect::<Vec<_>>()).collect();
        let mut dims = vec![1; part.ndim()];
        (dims[0], dims[at]) = (rows.len(), n);
        Array::from_slice(&marks, &dims)
    };
    let mut mask = along(axis, &|r, p| r.is_active(layer) && r.positions().contains(&(p + cut)))?;
    let within = |chosen: &Option<Vec<usize>>, i: usize| chosen.as_ref().is_none_or(|list| list.contains(&i));
    if let Some(heads) = self::axis(layout, "head")
        && rows.iter().any(|r| r.cell.heads.is_some())
    {
        mask = tensor::and(&mask, &along(heads, &|r, i| within(&r.cell.heads, i))?)?;
    }
    if let Some(features) = self::axis(layout, "feature")
        && rows.iter().any(|r| r.cell.neurons.is_some())
    {
        mask = tensor::and(&mask, &along(features, &|r, i| within(&r.cell.neurons, i))?)?;
    }
    Ok(mask)
}
