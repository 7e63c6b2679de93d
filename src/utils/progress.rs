//! How far a long job has come, told to whoever asked; who may end it.

use crate::error::{Result, bail};

/// A function of (done, total) that returns false to end the job; total is 0 where it is not known.
pub type Progress<'a> = Option<&'a mut dyn FnMut(u64, u64) -> bool>;

/// Tells it; an error when the answer is to stop.
pub fn tell(progress: &mut Progress<'_>, done: u64, total: u64) -> Result<()> {
    if let Some(told) = progress
        && !told(done, total)
    {
        bail!(Callback, "cancelled after {done} of {total}");
    }
    Ok(())
}
