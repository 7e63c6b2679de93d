//! Reading intermediate states through the model's own head.

mod attribution;
mod cells;
mod component;
mod logit;
mod patchscope;
mod readout;
mod tuned;

pub use attribution::{
    Attributed, AttributionOptions, LogitAttribution, Norm, Part, Split, TopNeuron, attribution_of,
    direct_logit_attribution,
};
pub use cells::{Cell, LensCell, LogitLens, Reading, Shade, Standing};
pub use component::Component;
pub use logit::{LensOptions, lens_of, logit_lens, top_tokens};
pub use patchscope::{
    IDENTITY, Mapping, Patched, Patchscope, PatchscopeOptions, TargetPrompt, patchscope, patchscope_of,
};
pub use tuned::{
    Held, Optimiser, TunedLens, TunedLensOptions, TunedTraining, train_tuned_lens, train_tuned_lens_with, tuned_lens,
    tuned_lens_of,
};

use crate::error::{Result, bail};

/// A layer's number, negative from the end.
fn layer(asked: i64, n: usize) -> Result<usize> {
    let at = if asked < 0 { asked + n as i64 } else { asked };
    match usize::try_from(at) {
        Ok(at) if at < n => Ok(at),
        _ => bail!(InvalidArgument, "no layer {asked}: the model has {n} (0 to {}, or -1 for the last)", n.max(1) - 1),
    }
}

/// A position of a row, negative from its end.
fn position(asked: i64, length: usize, row: usize) -> Result<usize> {
    let at = if asked < 0 { asked + length as i64 } else { asked };
    match usize::try_from(at) {
        Ok(at) if at < length => Ok(at),
        _ => bail!(InvalidArgument, "no position {asked}: prompt {row} has {length} tokens"),
    }
}
