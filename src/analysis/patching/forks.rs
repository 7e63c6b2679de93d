//! The way that always works: forks of the unpatched run, several as rows of a batch, from the patched layer on.

use super::place::{Keep, Row, patched, share_below};
use super::sweep::Sweep;
use crate::core::trace::Trace;
use crate::error::Result;

impl Sweep<'_> {
    /// Runs cells layer by layer. All prompts of a cell run together, so that row `i` of a fork is prompt `i % prompts`.
    pub(super) fn fork_all(&self, open: Vec<Row<'_>>, keep: &mut Keep<'_>) -> Result<()> {
        let n = self.prompts.len();
        let mut rows = open;
        rows.sort_by_key(|r| (r.cell.first, r.number, r.prompt));
        rows.dedup_by_key(|r| r.number);
        let base = (self.start)(None)?;
        let width = self.prompts.iter().map(Vec::len).max().unwrap_or(1);
        let at_once = (self.rows_at_once(width) / n.max(1)).max(1);
        for same_layer in rows.chunk_by(|a, b| a.cell.first == b.cell.first) {
            share_below(&base, same_layer[0].cell.first)?;
            for cells in same_layer.chunks(at_once) {
                let all: Vec<Row<'_>> = cells.iter().flat_map(|r| (0..n).map(|prompt| Row { prompt, ..*r })).collect();
                let fork = base.fork_rows(cells.len())?;
                self.patch(&fork, &all)?;
                let prompts: Vec<usize> = all.iter().map(|r| r.prompt).collect();
                let numbers = self.score.of(&fork, &prompts)?.to_vec::<f32>()?;
                keep(&all, numbers)?;
            }
        }
        Ok(())
    }

    /// Patches a trace of whole prompts in all layers that its rows name.
    fn patch(&self, trace: &Trace, rows: &[Row<'_>]) -> Result<()> {
        let first = rows.iter().map(|r| r.cell.first).min().unwrap_or(0);
        let last = rows.iter().map(|r| r.cell.last).max().unwrap_or(0);
        for layer in first..=last {
            let (Some(site), Some(value)) = (self.sites[layer], &self.values[layer]) else { continue };
            let inner = self.model.inner();
            let name = || inner.slot_name(inner.slot(site));
            let old = trace.read(site)?;
            let new = patched(&old, inner.layout(site), rows, layer, 0, value).map_err(|e| e.context(name()))?;
            if let Some(new) = new {
                trace.write(site, &new)?;
            }
        }
        Ok(())
    }
}
