//! Models that take arrays instead of token ids.

use super::{Model, Prompts};
use crate::core::tensor::Array;
use crate::core::trace::Batch;
use crate::error::{Result, bail};

impl Model {
    /// What `Main` takes: `ids` for token ids, else names of arrays.
    pub fn inputs(&self) -> &[String] {
        &self.inner().program.inputs
    }

    /// The arrays of a run, checked.
    pub(super) fn array_batch(&self, prompts: Prompts) -> Result<Batch> {
        let names = self.inputs();
        let wanted = names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
        let arrays = match prompts {
            Prompts::Arrays(_) if self.inner().program.takes_tokens() => bail!(
                InvalidArgument,
                "the model takes token ids, not arrays: give text or lists of ids (its description says Main(ids))"
            ),
            Prompts::Arrays(arrays) => arrays,
            _ => bail!(
                InvalidArgument,
                "the model takes {} ({wanted}), not text or token ids: its description says so at Main",
                if names.len() == 1 { "an array" } else { "arrays" }
            ),
        };
        if arrays.len() != names.len() {
            bail!(InvalidArgument, "{} arrays were given, the model takes {} ({wanted})", arrays.len(), names.len());
        }
        for (slot, rows) in &self.inner().indexing {
            check_indices(&names[*slot as usize], &arrays[*slot as usize], *rows)?;
        }
        Batch::of_arrays(arrays)
    }
}

/// MLX does not check indices: one outside the table would read foreign memory.
fn check_indices(name: &str, array: &Array, rows: usize) -> Result<()> {
    let dtype = array.dtype();
    if dtype.is_float() || dtype == crate::core::tensor::Dtype::Bool {
        bail!(InvalidArgument, "'{name}' chooses rows of an embedding, so it must hold whole numbers, not {dtype}");
    }
    match array.to_vec::<i64>()?.iter().find(|i| !(0..rows as i64).contains(i)) {
        None => Ok(()),
        Some(i) => bail!(InvalidArgument, "'{name}' holds {i}, but the embedding it chooses from has {rows} rows"),
    }
}
