//! Batches: prompts as tokens, checked and padded.

use std::ffi::c_char;

use serde_json::Value;

use super::array::{array, hand_out, mlxterp_array};
use super::door::{door, list, list_by_row, output, text};
use super::library::mlxterp_status;
use super::model::{extra, mlxterp_model, parsed};
use super::registry::{Handle, borrow, give, take};
use crate::core::model::Prompts;
use crate::core::trace::Batch;
use crate::error::{Result, bail};

/// Token ids of one prompt or several, padded on the right. Immutable; any thread may use it.
pub struct mlxterp_batch(pub(super) Batch);

impl Handle for mlxterp_batch {
    const NOUN: &'static str = "batch";
}

fn hand_out_batch(out: *mut *mut mlxterp_batch, work: impl FnOnce() -> Result<Batch>) -> mlxterp_status {
    door(|| {
        let out = output(out, std::ptr::null_mut(), "out_batch")?;
        *out = give(mlxterp_batch(work()?));
        Ok(())
    })
}

/// Encodes texts with the model's tokenizer, special tokens as its own post-processing adds them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_from_texts(
    model: *const mlxterp_model,
    texts: *const *const c_char,
    count: usize,
    out_batch: *mut *mut mlxterp_batch,
) -> mlxterp_status {
    hand_out_batch(out_batch, || {
        let read = |t: &*const c_char| text(*t, "a text").map(str::to_owned);
        let texts = list(texts, count, "texts")?.iter().map(read).collect::<Result<Vec<_>>>()?;
        borrow(model)?.0.batch(Prompts::Text(texts))
    })
}

/// Conversations through the model's chat template, one row each, up to where the assistant's answer begins.
/// `messages_json` is a list of messages (objects with "role" and "content"), or a list of such lists; `extra_json` is an
/// object with further names for the template, NULL for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_from_chats(
    model: *const mlxterp_model,
    messages_json: *const c_char,
    extra_json: *const c_char,
    out_batch: *mut *mut mlxterp_batch,
) -> mlxterp_status {
    hand_out_batch(out_batch, || {
        let model = &borrow(model)?.0;
        let conversations = match parsed(text(messages_json, "messages_json")?, "messages_json")? {
            Value::Array(rows) if rows.first().is_some_and(Value::is_array) => rows,
            one => vec![one],
        };
        model.chat(&conversations, &extra(extra_json)?)
    })
}

/// Takes token ids as they are: `lengths[r]` ids of row `r` follow those of row `r - 1` in `ids`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_from_tokens(
    model: *const mlxterp_model,
    ids: *const u32,
    lengths: *const usize,
    rows: usize,
    out_batch: *mut *mut mlxterp_batch,
) -> mlxterp_status {
    hand_out_batch(out_batch, || {
        let split = list_by_row(ids, lengths, rows, ("ids", "lengths"))?;
        borrow(model)?.0.batch(Prompts::Tokens(split))
    })
}

/// The arrays that a model takes whose description does not say `Main(ids)`, in the order of `Main`: rows along the first
/// axis, positions along the second where there are three.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_from_arrays(
    model: *const mlxterp_model,
    arrays: *const *const mlxterp_array,
    count: usize,
    out_batch: *mut *mut mlxterp_batch,
) -> mlxterp_status {
    hand_out_batch(out_batch, || {
        let arrays = list(arrays, count, "arrays")?.iter().map(|a| array(*a).cloned()).collect::<Result<Vec<_>>>()?;
        borrow(model)?.0.batch(Prompts::Arrays(arrays))
    })
}

/// Number of rows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_count(batch: *const mlxterp_batch) -> usize {
    borrow(batch).map_or(0, |b| b.0.len())
}

/// Positions of the longest row.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_width(batch: *const mlxterp_batch) -> usize {
    borrow(batch).map_or(0, |b| b.0.width())
}

/// Tokens of each row. Borrowed from the batch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_lengths(batch: *const mlxterp_batch) -> *const usize {
    borrow(batch).map_or(std::ptr::null(), |b| b.0.lengths().as_ptr())
}

/// The ids `[rows, width]`, int32, padded on the right.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_ids(
    batch: *const mlxterp_batch,
    out_array: *mut *mut mlxterp_array,
) -> mlxterp_status {
    hand_out(out_array, || {
        let batch = &borrow(batch)?.0;
        if !batch.is_tokens() {
            bail!(InvalidArgument, "the batch holds arrays, not token ids: read them from the trace by their names");
        }
        Ok(batch.ids().clone())
    })
}

/// Ends a handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_batch_free(batch: *mut mlxterp_batch) {
    drop(take(batch));
}
