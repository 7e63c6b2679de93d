//! Reading intermediate states through the model's own head.

mod logit;

pub use logit::{Cell, LogitLens, logit_lens, top_tokens};
