//! Analyses by name: options in JSON, arrays and functions beside them, a result back.

use std::ffi::{c_char, c_void};

use serde_json::json;

use super::array::{array, mlxterp_array};
use super::door::{door, fill_struct, hand_out_text, list, optional_text, output, read_struct, text};
use super::intervention::mlxterp_intervention;
use super::library::mlxterp_status;
use super::model::mlxterp_model;
use super::registry::{borrow, give, take};
use super::result::mlxterp_result;
use super::trace::mlxterp_trace;
use crate::core::tensor::Array;
use crate::core::trace::Trace;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::toolkit::{Call, TOOLS, run};
use crate::utils::Metric;

/// A metric: puts a new array handle with one number a row of the trace (a scalar for one row) into `out_value`; the
/// library frees it. The trace is lent for the call; it may be read and written. Any status but OK stops the tool with
/// MLXTERP_STATUS_CALLBACK.
pub type mlxterp_metric_fn = Option<
    unsafe extern "C" fn(user: *mut c_void, trace: *const mlxterp_trace, out_value: *mut *mut mlxterp_array) -> i32,
>;

/// Told how far a tool has come; `total` is 0 where it is not known. Any answer but 0 ends the tool with
/// MLXTERP_STATUS_CALLBACK.
pub type mlxterp_tool_progress_fn = Option<unsafe extern "C" fn(user: *mut c_void, done: u64, total: u64) -> i32>;

/// What a tool is given besides its options. Begin with mlxterp_tool_inputs_init.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct mlxterp_tool_inputs {
    /// Size of this struct.
    pub struct_size: usize,
    /// Names of arrays, `array_count` of them.
    pub array_names: *const *const c_char,
    /// The array of each name.
    pub arrays: *const *const mlxterp_array,
    /// How many.
    pub array_count: usize,
    /// Sites or patterns of interventions that every run of the tool is under, `intervention_count` of them.
    pub patterns: *const *const c_char,
    /// The intervention of each pattern.
    pub interventions: *const *const mlxterp_intervention,
    /// How many.
    pub intervention_count: usize,
    /// A metric in place of one named in the options. NULL: the options'.
    pub metric: mlxterp_metric_fn,
    /// Passed to `metric`.
    pub metric_user: *mut c_void,
    /// NULL: nobody is told.
    pub progress: mlxterp_tool_progress_fn,
    /// Passed to `progress`.
    pub progress_user: *mut c_void,
}

const DEFAULTS: mlxterp_tool_inputs = mlxterp_tool_inputs {
    struct_size: size_of::<mlxterp_tool_inputs>(),
    array_names: std::ptr::null(),
    arrays: std::ptr::null(),
    array_count: 0,
    patterns: std::ptr::null(),
    interventions: std::ptr::null(),
    intervention_count: 0,
    metric: None,
    metric_user: std::ptr::null_mut(),
    progress: None,
    progress_user: std::ptr::null_mut(),
};

/// The size of the struct in its first version.
const FIRST: usize = std::mem::offset_of!(mlxterp_tool_inputs, progress_user) + size_of::<*mut c_void>();

/// Fills in the defaults, nothing, of a struct of `struct_size` bytes: what a C program calls as
/// mlxterp_tool_inputs_init(&inputs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_tool_inputs_init_sized(
    inputs: *mut mlxterp_tool_inputs,
    struct_size: usize,
) -> mlxterp_status {
    door(|| fill_struct(inputs, DEFAULTS, struct_size, FIRST))
}

/// Fills in the defaults of the fields that the struct had in its first version. The header puts a macro before it that
/// knows the struct's size; a language without macros calls mlxterp_tool_inputs_init_sized.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_tool_inputs_init(inputs: *mut mlxterp_tool_inputs) -> mlxterp_status {
    door(|| fill_struct(inputs, DEFAULTS, FIRST, FIRST))
}

/// Runs an analysis by name on a model. `options_json` is an object, NULL for none; which options a tool takes is in the
/// guides. `inputs` may be NULL. Nothing of it is kept once the call is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_tool_run(
    model: *const mlxterp_model,
    tool: *const c_char,
    options_json: *const c_char,
    inputs: *const mlxterp_tool_inputs,
    out_result: *mut *mut mlxterp_result,
) -> mlxterp_status {
    door(|| {
        let out = output(out_result, std::ptr::null_mut(), "out_result")?;
        let model = &borrow(model)?.0;
        let inputs = read_struct(inputs, DEFAULTS, FIRST, "mlxterp_tool_inputs_init")?;
        let mut call = Call::parse(optional_text(options_json, "options_json")?.unwrap_or(""))?;
        let names = list(inputs.array_names, inputs.array_count, "inputs.array_names")?;
        for (name, a) in names.iter().zip(list(inputs.arrays, inputs.array_count, "inputs.arrays")?) {
            call.arrays.push((text(*name, "an array's name")?.to_owned(), array(*a)?.clone()));
        }
        let patterns = list(inputs.patterns, inputs.intervention_count, "inputs.patterns")?;
        let interventions = list(inputs.interventions, inputs.intervention_count, "inputs.interventions")?;
        for (pattern, intervention) in patterns.iter().zip(interventions) {
            call.interventions.push((text(*pattern, "a pattern")?.to_owned(), borrow(*intervention)?.0.clone()));
        }
        call.metric = inputs.metric.map(|function| measure(function, inputs.metric_user));
        let mut told = inputs.progress.map(|function| {
            let user = inputs.progress_user;
            // SAFETY: the caller's function on the caller's pointer, on the caller's thread.
            move |done, total| unsafe { function(user, done, total) == 0 }
        });
        call.progress = told.as_mut().map(|f| f as &mut dyn FnMut(u64, u64) -> bool);
        *out = give(mlxterp_result::new(run(model, text(tool, "tool")?, call)?));
        Ok(())
    })
}

/// The tools, as a JSON list of `{"name", "about", "arrays", "metric"}`. Free with mlxterp_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_tools_json(out_text: *mut *mut c_char) -> mlxterp_status {
    hand_out_text(out_text, || {
        let one = |t: &crate::toolkit::Tool| json!({ "name": t.name, "about": t.about, "arrays": t.arrays, "metric": t.metric });
        super::model::json(&TOOLS.iter().map(one).collect::<Vec<_>>())
    })
}

/// The caller's function, which is only used while mlxterp_tool_run runs.
struct Measure {
    function: unsafe extern "C" fn(*mut c_void, *const mlxterp_trace, *mut *mut mlxterp_array) -> i32,
    user: *mut c_void,
}

// SAFETY: called on the thread of mlxterp_tool_run only.
unsafe impl Send for Measure {}
unsafe impl Sync for Measure {}

impl Measure {
    fn of(&self, trace: &Trace) -> Result<Array> {
        let lent = give(mlxterp_trace(trace.clone()));
        let mut out = std::ptr::null_mut();
        // SAFETY: the caller's function; what is lent lives through the call.
        let status = unsafe { (self.function)(self.user, lent, &mut out) };
        drop(take(lent));
        let value = take(out);
        if status != 0 {
            return Err(Error::new(ErrorKind::Callback, format!("the metric failed with status {status}")));
        }
        match value {
            Some(value) => Ok(value.array),
            None => bail!(Callback, "the metric returned no array handle"),
        }
    }
}

fn measure(
    function: unsafe extern "C" fn(*mut c_void, *const mlxterp_trace, *mut *mut mlxterp_array) -> i32,
    user: *mut c_void,
) -> Metric {
    let measure = Measure { function, user };
    Metric::custom(move |trace| measure.of(trace))
}
