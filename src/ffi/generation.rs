//! Generations: step by step, each step a trace.

use std::ffi::{c_char, c_void};

use parking_lot::Mutex;

use super::array::mlxterp_destroy_fn;
use super::batch::mlxterp_batch;
use super::cache::{hand_out_cache, mlxterp_cache};
use super::condition::mlxterp_condition;
use super::door::{door, fill_struct, hand_out_text, list, output, read_struct, text};
use super::intervention::mlxterp_intervention;
use super::library::mlxterp_status;
use super::model::{json, mlxterp_model};
use super::registry::{Handle, borrow, give, take};
use super::trace::mlxterp_trace;
use crate::core::generation::{Drawn, GenerateOptions, Generation, OnStep, Sampling, Steering, Step, When};
use crate::core::trace::Keep;
use crate::error::{Error, ErrorKind, Result, bail, err};

/// A generation under way. Any thread may use it.
pub struct mlxterp_generation {
    generation: Generation,
    /// The step that was begun last.
    step: Mutex<Option<Step>>,
}

impl Handle for mlxterp_generation {
    const NOUN: &'static str = "generation";
}

/// In which steps a change is made.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum mlxterp_when {
    /// In every step.
    MLXTERP_WHEN_ALWAYS = 0,
    /// In step 0, over the prompts.
    MLXTERP_WHEN_PREFILL = 1,
    /// In every later step.
    MLXTERP_WHEN_DECODE = 2,
}

/// Told of every step before its tokens are drawn. The trace is lent for the call; it may be read and written. Any answer
/// but 0 ends the generation with MLXTERP_STATUS_CALLBACK.
pub type mlxterp_step_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, step: usize, trace: *const mlxterp_trace) -> i32>;

/// Options of mlxterp_generation_start. Begin with mlxterp_generate_options_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxterp_generate_options {
    /// Size of this struct.
    pub struct_size: usize,
    /// The most tokens drawn for a row.
    pub max_tokens: usize,
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Only the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f64,
    /// Only tokens at least this many times as likely as the most likely one; 0 keeps all.
    pub min_p: f64,
    /// Row `r` of a batch draws what it would draw alone with `seed + r`.
    pub seed: u64,
    /// Texts that end a row, `stop_count` of them.
    pub stops: *const *const c_char,
    /// How many.
    pub stop_count: usize,
    /// Token ids that end a row, `eos_count` of them.
    pub eos_ids: *const u32,
    /// How many. With `eos_ids` NULL and 0 here, those that the model's files name.
    pub eos_count: usize,
    /// Site names or patterns of changes, `intervention_count` of them.
    pub patterns: *const *const c_char,
    /// The intervention of each pattern, applied in this order in every step it is meant for.
    pub interventions: *const *const mlxterp_intervention,
    /// A mlxterp_when for each. NULL: always.
    pub whens: *const u32,
    /// What each hangs on, NULL for nothing. NULL: nothing for all.
    pub conditions: *const *const mlxterp_condition,
    /// How many.
    pub intervention_count: usize,
    /// NULL: nobody is told.
    pub on_step: mlxterp_step_fn,
    /// Passed to `on_step`.
    pub on_step_user: *mut c_void,
    /// Called with `on_step_user` exactly once, when the generation is over, also when it could not be started. May be NULL.
    pub on_step_destroy: mlxterp_destroy_fn,
    /// 1 keeps every value of every step's trace from its start.
    pub keep_all: i32,
    /// 1 makes a write that changed or reached nothing an error when its step's tokens are drawn.
    pub strict: i32,
}

const DEFAULTS: mlxterp_generate_options = mlxterp_generate_options {
    struct_size: size_of::<mlxterp_generate_options>(),
    max_tokens: 128,
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    seed: 0,
    stops: std::ptr::null(),
    stop_count: 0,
    eos_ids: std::ptr::null(),
    eos_count: 0,
    patterns: std::ptr::null(),
    interventions: std::ptr::null(),
    whens: std::ptr::null(),
    conditions: std::ptr::null(),
    intervention_count: 0,
    on_step: None,
    on_step_user: std::ptr::null_mut(),
    on_step_destroy: None,
    keep_all: 0,
    strict: 0,
};

/// The size of the struct in the first header of this ABI (tests/fixtures/abi).
const FIRST: usize = std::mem::offset_of!(mlxterp_generate_options, strict) + size_of::<i32>();

/// Fills in the defaults (greedy, 128 tokens) of a struct of `struct_size` bytes: what a C program calls as
/// mlxterp_generate_options_init(&options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generate_options_init_sized(
    options: *mut mlxterp_generate_options,
    struct_size: usize,
) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, struct_size, FIRST))
}

/// Fills in the defaults of the fields that the struct had in the first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_generate_options_init_sized.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generate_options_init(options: *mut mlxterp_generate_options) -> mlxterp_status {
    door(|| fill_struct(options, DEFAULTS, FIRST, FIRST))
}

/// The caller's function of steps.
struct Tell {
    call: unsafe extern "C" fn(*mut c_void, usize, *const mlxterp_trace) -> i32,
    owner: Owner,
}

/// The caller's pointer, given back once.
struct Owner {
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
}

// SAFETY: the header says that the function may be called from any thread that runs the generation, one at a time.
unsafe impl Send for Owner {}
unsafe impl Sync for Owner {}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller's function on the caller's pointer, once.
            unsafe { destroy(self.user) };
        }
    }
}

impl Tell {
    fn run(&self, step: &Step) -> Result<()> {
        let lent = give(mlxterp_trace(step.trace().clone()));
        // SAFETY: the caller's function; what is lent lives through the call.
        let status = unsafe { (self.call)(self.owner.user, step.number(), lent) };
        drop(take(lent));
        if status != 0 {
            let text = format!("the function of step {} failed with status {status}", step.number());
            return Err(Error::new(ErrorKind::Callback, text));
        }
        Ok(())
    }
}

fn read_options(o: &mlxterp_generate_options, owner: Owner) -> Result<GenerateOptions> {
    let stops = list(o.stops, o.stop_count, "options.stops")?;
    let eos = list(o.eos_ids, o.eos_count, "options.eos_ids")?;
    Ok(GenerateOptions {
        max_tokens: o.max_tokens,
        sampling: Sampling {
            temperature: o.temperature,
            top_k: (o.top_k > 0).then_some(o.top_k),
            top_p: o.top_p,
            min_p: o.min_p,
        },
        seed: o.seed,
        stop: stops.iter().map(|s| text(*s, "a stop string").map(str::to_owned)).collect::<Result<_>>()?,
        eos: (!o.eos_ids.is_null()).then(|| eos.to_vec()),
        steering: read_steering(o)?,
        keep: if o.keep_all != 0 { Keep::All } else { Keep::Read },
        strict: o.strict != 0,
        on_step: o.on_step.map(|call| {
            let tell = Tell { call, owner };
            OnStep::new(move |step| tell.run(step))
        }),
    })
}

fn read_steering(o: &mlxterp_generate_options) -> Result<Vec<Steering>> {
    let n = o.intervention_count;
    let patterns = list(o.patterns, n, "options.patterns")?;
    let interventions = list(o.interventions, n, "options.interventions")?;
    let whens = list(o.whens, if o.whens.is_null() { 0 } else { n }, "options.whens")?;
    let conditions = list(o.conditions, if o.conditions.is_null() { 0 } else { n }, "options.conditions")?;
    let mut all = Vec::with_capacity(n);
    for (i, (pattern, intervention)) in patterns.iter().zip(interventions).enumerate() {
        let when = match whens.get(i).copied().unwrap_or(0) {
            0 => When::Always,
            1 => When::Prefill,
            2 => When::Decode,
            other => bail!(InvalidArgument, "options.whens[{i}] is {other}: use a mlxterp_when, 0 to 2"),
        };
        let steering = Steering::new(text(*pattern, "a pattern")?, borrow(*intervention)?.0.clone()).when(when);
        all.push(match conditions.get(i).filter(|c| !c.is_null()) {
            Some(condition) => steering.only_while(borrow(*condition)?.0.clone()),
            None => steering,
        });
    }
    Ok(all)
}

/// Starts a generation from a batch of tokens. Nothing is computed. `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_start(
    model: *const mlxterp_model,
    batch: *const mlxterp_batch,
    options: *const mlxterp_generate_options,
    out_generation: *mut *mut mlxterp_generation,
) -> mlxterp_status {
    door(|| {
        let given = read_struct(options, DEFAULTS, FIRST, "mlxterp_generate_options_init")?;
        let owner = Owner { user: given.on_step_user, destroy: given.on_step_destroy };
        let out = output(out_generation, std::ptr::null_mut(), "out_generation")?;
        let options = read_options(&given, owner)?;
        let generation = borrow(model)?.0.generate_batch(borrow(batch)?.0.clone(), &options)?;
        *out = give(mlxterp_generation { generation, step: Mutex::new(None) });
        Ok(())
    })
}

/// The trace of the next step, to be read and written until its tokens are drawn; NULL when every row has ended. The
/// tokens of the step before are drawn first, if nobody has. An error ends the generation; the rows stay as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_next(
    generation: *const mlxterp_generation,
    out_trace: *mut *mut mlxterp_trace,
) -> mlxterp_status {
    door(|| {
        let out = output(out_trace, std::ptr::null_mut(), "out_trace")?;
        let g = borrow(generation)?;
        if let Some(step) = g.generation.advance()? {
            *out = give(mlxterp_trace(step.trace().clone()));
            *g.step.lock() = Some(step);
        }
        Ok(())
    })
}

/// Draws the tokens of the step that was begun last, if nobody has. From here on, writes to its trace come too late.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_draw(generation: *const mlxterp_generation) -> mlxterp_status {
    door(|| drawn(borrow(generation)?).map(drop))
}

/// What the step that was begun last drew, drawn now unless it was drawn already.
fn drawn(g: &mlxterp_generation) -> Result<Vec<Option<Drawn>>> {
    let step = g.step.lock().clone();
    let Some(step) = step else { bail!(InvalidArgument, "no step was begun: call mlxterp_generation_next first") };
    step.draw().map(<[_]>::to_vec)
}

fn of_row<T>(all: Vec<T>, row: usize) -> Result<T> {
    let n = all.len();
    all.into_iter().nth(row).ok_or_else(|| err!(InvalidArgument, "there is no row {row}: the generation has {n}"))
}

/// The token that a row drew in the step that was begun last, drawn now unless it was drawn already; -1 for a row that had
/// ended before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_token(
    generation: *const mlxterp_generation,
    row: usize,
    out_token: *mut i64,
) -> mlxterp_status {
    door(|| {
        let out = output(out_token, 0, "out_token")?;
        *out = of_row(drawn(borrow(generation)?)?, row)?.map_or(-1, |d| i64::from(d.token));
        Ok(())
    })
}

/// The text of a row that became complete with the step that was begun last; often empty, never part of a character.
/// Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_piece(
    generation: *const mlxterp_generation,
    row: usize,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(of_row(drawn(borrow(generation)?)?, row)?.map_or(String::new(), |d| d.text)))
}

/// What the step that was begun last drew, as a JSON list with an entry a row: `{"token", "text", "finish"}`, null for a row
/// that had ended before; "finish" is null, "eos", "stop" or "length". Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_drawn_json(
    generation: *const mlxterp_generation,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(&drawn(borrow(generation)?)?))
}

/// Runs to the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_run(generation: *const mlxterp_generation) -> mlxterp_status {
    door(|| borrow(generation)?.generation.run().map(drop))
}

/// Whether no step will follow. True when `generation` is not a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_is_done(generation: *const mlxterp_generation) -> bool {
    borrow(generation).and_then(|g| g.generation.is_done()).unwrap_or(true)
}

/// Tokens that a row has drawn: writes at most `capacity` ids to `ids` (NULL when 0) and their count to `out_count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_tokens(
    generation: *const mlxterp_generation,
    row: usize,
    ids: *mut u32,
    capacity: usize,
    out_count: *mut usize,
) -> mlxterp_status {
    door(|| {
        let count = output(out_count, 0, "out_count")?;
        let own = of_row(borrow(generation)?.generation.rows()?, row)?.tokens;
        *count = own.len();
        let n = own.len().min(capacity);
        if n > 0 && ids.is_null() {
            bail!(InvalidArgument, "ids is NULL but has room for {capacity}");
        }
        for (i, id) in own.iter().take(n).enumerate() {
            // SAFETY: not NULL; the header says that it has room for `capacity` numbers.
            unsafe { ids.add(i).write(*id) };
        }
        Ok(())
    })
}

/// The text of a row so far, up to the stop string that ended it. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_text(
    generation: *const mlxterp_generation,
    row: usize,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || Ok(of_row(borrow(generation)?.generation.rows()?, row)?.text))
}

/// Every row as far as it has come, as a JSON list of `{"prompt": ids, "tokens": ids, "text", "finish", "stop"}`; "finish"
/// is null while the row goes on, then "eos", "stop" or "length"; "stop" is the stop string. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_rows_json(
    generation: *const mlxterp_generation,
    out_text: *mut *mut c_char,
) -> mlxterp_status {
    hand_out_text(out_text, || json(&borrow(generation)?.generation.rows()?))
}

/// What the model remembers of the prompts and of the tokens that were run so far; those drawn last are not among them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_cache(
    generation: *const mlxterp_generation,
    out_cache: *mut *mut mlxterp_cache,
) -> mlxterp_status {
    hand_out_cache(out_cache, || borrow(generation)?.generation.cache())
}

/// Ends a handle. Traces of its steps stay. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_generation_free(generation: *mut mlxterp_generation) {
    drop(take(generation));
}
