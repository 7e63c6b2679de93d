//! A good call of every fallible door that takes a handle, text or an output.

use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

use mlxterp::ffi::*;

use super::case::{Case, TOOL_OPTIONS, model_path};

pub type Good = (&'static str, &'static CStr, fn(&Case) -> mlxterp_status);

const F32: u32 = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;
/// A template that writes only what the model has tokens for.
const BARE: &CStr = c"{\"chat_template\": \"{{ messages[0].content }}\"}";
const CHAT: &CStr = c"[{\"role\": \"!\", \"content\": \"#\"}]";
const FIRST: mlxterp_index = mlxterp_index { kind: 0, reserved: 0, start: 0, stop: 1, step: 1 };

unsafe extern "C" fn unchanged(_: *mut c_void, _: *const mlxterp_event, _: *mut *mut mlxterp_array) -> i32 {
    0
}

unsafe extern "C" fn nothing(_: *mut c_void, _: *const mlxterp_opaque_call, _: *mut *mut mlxterp_array) -> i32 {
    0
}

/// A model that takes an array and scales it.
const SCALING: &CStr = c"arch scaling\n\nMain(x):\n  w: param\n  return x * w\n";

macro_rules! table {
    ($($door:ident $text:tt |$c:ident| ($($argument:expr),*);)*) => {
        // SAFETY: the arguments are those that the header asks for, or the spoilt ones that it promises to refuse.
        vec![$((stringify!($door), $text, |$c| unsafe { $door($($argument),*) })),*]
    };
}

#[rustfmt::skip]
pub fn table() -> Vec<Good> {
    table! {
        mlxterp_model_load c"" |c| (source(c), null(), c.out());
        mlxterp_model_from_weights SCALING |c| (c.text, c"{}".as_ptr(), &c"w".as_ptr(), [c.arrays[0].cast_const()].as_ptr(), 1, null(), c.out());
        mlxterp_model_from_files c"" |c| (c"llama".as_ptr(), config(), &source(c), 1, null(), c.out());
        mlxterp_opaque_new c"" |c| (Some(nothing), null_mut(), None, c.out());
        mlxterp_model_info_json c"" |c| (c.model, c.out());
        mlxterp_model_config_json c"" |c| (c.model, c.out());
        mlxterp_model_describe c"" |c| (c.model, c.out());
        mlxterp_model_sites_json c"layers.*.mlp" |c| (c.model, c.text, c.out());
        mlxterp_model_plan_json c"" |c| (c.model, c.batch, c.out());
        mlxterp_model_forward c"" |c| (c.model, c.batch, c.out());
        mlxterp_model_encode c"!#" |c| (c.model, c.text, true, [0u32; 8].as_mut_ptr(), 8, c.out());
        mlxterp_model_decode c"" |c| (c.model, [3u32, 5].as_ptr(), 2, true, c.out());
        mlxterp_model_token_to_str c"" |c| (c.model, 3, c.out());
        mlxterp_batch_from_texts c"!#" |c| (c.model, &c.text, 1, c.out());
        mlxterp_batch_from_tokens c"" |c| (c.model, [3u32].as_ptr(), &1, 1, c.out());
        mlxterp_batch_ids c"" |c| (c.batch, c.out());
        mlxterp_batch_from_arrays c"" |c| (Scaling::of(c).0, [c.arrays[0].cast_const()].as_ptr(), 1, c.out());
        mlxterp_trace_start c"" |c| (c.model, c.batch, null(), c.out());
        mlxterp_trace_read c"layers.0.attn.output" |c| (c.trace, c.text, c.out());
        mlxterp_trace_write c"layers.0.mlp" |c| (c.trace, c.text, c.arrays[0]);
        mlxterp_trace_write_at c"layers.0.mlp" |c| (c.trace, c.text, &FIRST, 1, c.arrays[0]);
        mlxterp_trace_intervene c"layers.*.mlp" |c| (c.trace, c.text, c.intervention);
        mlxterp_trace_fork c"" |c| (c.trace, c.out());
        mlxterp_trace_fork_rows c"" |c| (c.trace, 2, c.out());
        mlxterp_trace_receipts_json c"" |c| (c.trace, c.out());
        mlxterp_trace_batch c"" |c| (c.trace, c.out());
        mlxterp_trace_finish c"" |c| (c.trace);
        mlxterp_condition_new c"layers.0.output" |c| (c.text, c.arrays[0], 0.0, 1.0, false, c.out());
        mlxterp_condition_describe c"" |c| (c.condition, c.out());
        mlxterp_model_apply_chat_template CHAT |c| (c.model, c.text, true, null(), c.out());
        mlxterp_batch_from_chats CHAT |c| (c.model, c.text, BARE.as_ptr(), c.out());
        mlxterp_generation_start c"" |c| (c.model, c.batch, null(), c.out());
        mlxterp_generation_next c"" |c| (c.generation, c.out());
        mlxterp_generation_draw c"" |c| (c.generation);
        mlxterp_generation_token c"" |c| (c.generation, 0, c.out());
        mlxterp_generation_piece c"" |c| (c.generation, 0, c.out());
        mlxterp_generation_drawn_json c"" |c| (c.generation, c.out());
        mlxterp_generation_run c"" |c| (c.generation);
        mlxterp_generation_tokens c"" |c| (c.generation, 0, [0u32; 8].as_mut_ptr(), 8, c.out());
        mlxterp_generation_text c"" |c| (c.generation, 0, c.out());
        mlxterp_generation_rows_json c"" |c| (c.generation, c.out());
        mlxterp_generation_cache c"" |c| (c.generation, c.out());
        mlxterp_cache_empty c"" |c| (c.out());
        mlxterp_trace_cache c"" |c| (c.trace, c.out());
        mlxterp_cache_lengths c"" |c| (c.cache, null_mut(), 0, c.out());
        mlxterp_cache_eval c"" |c| (c.cache);
        mlxterp_tool_run c"gradients" |c| (c.model, c.text, TOOL_OPTIONS.as_ptr(), null(), c.out());
        mlxterp_tools_json c"" |c| (c.out());
        mlxterp_result_kind c"" |c| (c.finding(), c.out());
        mlxterp_result_text c"" |c| (c.finding(), c.out());
        mlxterp_result_json c"" |c| (c.finding(), c.out());
        mlxterp_result_html c"" |c| (c.finding(), c.out());
        mlxterp_result_array_names_json c"" |c| (c.finding(), c.out());
        mlxterp_result_array c"gradient:embed.output" |c| (c.finding(), c.text, c.out());
        mlxterp_intervention_zero_out c"" |c| (c.out());
        mlxterp_intervention_scale c"" |c| (2.0, c.out());
        mlxterp_intervention_add_vector c"" |c| (c.arrays[0], 1.0, c.out());
        mlxterp_intervention_replace_with c"" |c| (c.arrays[0], c.out());
        mlxterp_intervention_clamp c"" |c| (-1.0, f64::INFINITY, c.out());
        mlxterp_intervention_noise c"" |c| (1.0, 7, c.out());
        mlxterp_intervention_project_out c"" |c| (c.arrays[0], c.out());
        mlxterp_intervention_set_component c"" |c| (c.arrays[0], 0.5, c.out());
        mlxterp_intervention_compose c"" |c| ([c.intervention.cast_const()].as_ptr(), 1, c.out());
        mlxterp_intervention_custom c"same" |c| (c.text, Some(unchanged), null_mut(), None, c.out());
        mlxterp_intervention_select c"positions" |c| (c.intervention, c.text, [-1i64].as_ptr(), 1, c.out());
        mlxterp_intervention_select_positions_by_row c"" |c| (c.intervention, [-1i64].as_ptr(), &1, 1, c.out());
        mlxterp_intervention_from_json c"scale(0.5)" |c| (c.text, c.out());
        mlxterp_intervention_to_json c"" |c| (c.intervention, c.out());
        mlxterp_intervention_describe c"" |c| (c.intervention, c.out());
        mlxterp_array_eval c"" |c| (c.arrays[0]);
        mlxterp_array_eval_all c"" |c| ([c.arrays[0].cast_const()].as_ptr(), 1);
        mlxterp_array_data c"" |c| (c.arrays[0], c.out());
        mlxterp_array_contiguous c"" |c| (c.arrays[0], c.out());
        mlxterp_array_from_data c"" |c| ([1f32].as_ptr().cast(), &1, 1, F32, c.out());
        mlxterp_array_adopt c"" |c| ((&raw mut ADOPTED).cast(), &1, 1, F32, null_mut(), None, c.out());
        mlxterp_array_to_dlpack c"" |c| (c.arrays[0], c.out());
        mlxterp_array_from_dlpack c"" |c| (tensor(), c.out());
        mlxterp_array_describe c"" |c| (c.arrays[0], c.out());
        mlxterp_array_unary c"" |c| (0, c.arrays[0], c.out());
        mlxterp_array_binary c"" |c| (0, c.arrays[0], c.arrays[1], c.out());
        mlxterp_array_reduce c"" |c| (0, c.arrays[0], 0, false, c.out());
        mlxterp_array_softmax c"" |c| (c.arrays[0], -1, c.out());
        mlxterp_array_cast c"" |c| (c.arrays[0], 8, c.out());
        mlxterp_array_reshape c"" |c| (c.arrays[0], [1, -1].as_ptr(), 2, c.out());
        mlxterp_array_broadcast_to c"" |c| (c.arrays[0], [3, 2].as_ptr(), 2, c.out());
        mlxterp_array_transpose c"" |c| (c.arrays[0], &0, 1, c.out());
        mlxterp_array_index c"" |c| (c.arrays[0], &FIRST, 1, c.out());
        mlxterp_array_index_update c"" |c| (c.arrays[0], &FIRST, 1, c.arrays[1], c.out());
        mlxterp_array_concatenate c"" |c| ([c.arrays[0].cast_const()].as_ptr(), 1, 0, c.out());
        mlxterp_array_stack c"" |c| ([c.arrays[0].cast_const()].as_ptr(), 1, 0, c.out());
        mlxterp_array_where c"" |c| (c.arrays[0], c.arrays[1], c.arrays[2], c.out());
        mlxterp_array_take c"" |c| (c.arrays[0], c.arrays[1], 0, c.out());
        mlxterp_array_topk c"" |c| (c.arrays[0], 1, c.out());
        mlxterp_array_scalar c"" |c| (1.5, F32, c.out());
        mlxterp_array_scalar_like c"" |c| (1.5, c.arrays[0], c.out());
        mlxterp_array_full c"" |c| ([2, 3].as_ptr(), 2, 0.5, F32, c.out());
    }
}

/// Memory that lives for ever, to be adopted.
static mut ADOPTED: [f32; 1] = [1.0];

/// A tensor of our own making; `from_dlpack` consumes it.
fn tensor() -> *mut c_void {
    let array = super::case::floats(&[2.5]);
    let tensor = super::case::made(|out| unsafe { mlxterp_array_to_dlpack(array, out) });
    unsafe { mlxterp_array_free(array) };
    tensor
}

/// A model that takes arrays, in the place of one that takes tokens; a spoilt one is passed on.
struct Scaling(*mut mlxterp_model, bool);

impl Scaling {
    fn of(case: &Case) -> Self {
        // SAFETY: any pointer may be asked.
        if unsafe { mlxterp_model_num_layers(case.model) } == 0 {
            return Scaling(case.model, false);
        }
        let array = super::case::floats(&[1.5]);
        let (names, arrays) = ([c"w".as_ptr()], [array.cast_const()]);
        let (description, config) = (SCALING.as_ptr(), c"{}".as_ptr());
        let model = super::case::made(|out| unsafe {
            mlxterp_model_from_weights(description, config, names.as_ptr(), arrays.as_ptr(), 1, null(), out)
        });
        unsafe { mlxterp_array_free(array) };
        Scaling(model, true)
    }
}

impl Drop for Scaling {
    fn drop(&mut self) {
        if self.1 {
            unsafe { mlxterp_model_free(self.0) };
        }
    }
}

/// The config of the model in files.
fn config() -> *const std::ffi::c_char {
    thread_local!(static CONFIG: std::ffi::CString = {
        let path = std::path::PathBuf::from(model_path().into_string().unwrap()).join("config.json");
        std::ffi::CString::new(std::fs::read(path).unwrap()).unwrap()
    });
    CONFIG.with(|c| c.as_ptr())
}

/// The empty text stands for the path of the model; a spoilt one is passed on.
fn source(case: &Case) -> *const std::ffi::c_char {
    thread_local!(static PATH: std::ffi::CString = model_path());
    // SAFETY: checked for NULL; NUL-terminated.
    if !case.text.is_null() && unsafe { *case.text } == 0 { PATH.with(|p| p.as_ptr()) } else { case.text }
}
