//! One good call of a fallible door, and every way to spoil one of its arguments.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

use mlxterp::ffi::*;

/// What an output holds before the call; no door may leave it there.
pub const UNTOUCHED: usize = 0x5a5a_5a5a;

/// A tiny model of two layers and 64 token ids, with a tokenizer.
pub fn model_path() -> CString {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("model_for_c");
    std::fs::create_dir_all(&folder).unwrap();
    for file in
        ["llama/config.json", "llama/model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"]
    {
        let name = file.split_once('/').unwrap().1;
        if !folder.join(name).exists() {
            // Another test of this kind may be doing the same: only a whole file gets the final name.
            let part = folder.join(format!("{name}.{}", std::process::id()));
            std::fs::copy(root.join(file), &part).unwrap();
            std::fs::rename(&part, folder.join(name)).unwrap();
        }
    }
    CString::new(folder.to_str().unwrap()).unwrap()
}

pub fn message() -> String {
    // SAFETY: never NULL, valid until the next failing call.
    unsafe { CStr::from_ptr(mlxterp_last_error_message()) }.to_str().unwrap().to_owned()
}

#[track_caller]
pub fn ok(status: mlxterp_status) {
    assert_eq!(status, mlxterp_status::MLXTERP_STATUS_OK, "{}", message());
}

/// Calls a door whose last argument is an output, and returns what it put there.
#[track_caller]
pub fn made<T>(call: impl FnOnce(*mut *mut T) -> mlxterp_status) -> *mut T {
    let mut out = UNTOUCHED as *mut T;
    ok(call(&mut out));
    out
}

/// A float32 array, computed.
pub fn floats(values: &[f32]) -> *mut mlxterp_array {
    let shape = [values.len() as i64];
    let dtype = mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32;
    let array = made(|out| unsafe { mlxterp_array_from_data(values.as_ptr().cast(), shape.as_ptr(), 1, dtype, out) });
    ok(unsafe { mlxterp_array_eval(array) });
    array
}

/// The elements of an array as float32. Frees the array.
pub fn numbers(array: *mut mlxterp_array) -> Vec<f32> {
    unsafe {
        let cast = made(|out| mlxterp_array_cast(array, mlxterp_dtype::MLXTERP_DTYPE_FLOAT32 as u32, out));
        let dense = made(|out| mlxterp_array_contiguous(cast, out));
        let mut data = null();
        ok(mlxterp_array_data(dense, &mut data));
        let values = std::slice::from_raw_parts(data.cast::<f32>(), mlxterp_array_size(dense)).to_vec();
        for handle in [array, cast, dense] {
            mlxterp_array_free(handle);
        }
        values
    }
}

pub fn tokens(model: *const mlxterp_model, ids: &[u32]) -> *mut mlxterp_batch {
    let length = ids.len();
    made(|out| unsafe { mlxterp_batch_from_tokens(model, ids.as_ptr(), &length, 1, out) })
}

fn gradients(model: *const mlxterp_model) -> *mut mlxterp_result {
    made(|out| unsafe { mlxterp_tool_run(model, c"gradients".as_ptr(), TOOL_OPTIONS.as_ptr(), null(), out) })
}

/// Options of a trace that goes on after a cache.
pub fn remembering(cache: *const mlxterp_cache) -> mlxterp_trace_options {
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_trace_options_init(options.as_mut_ptr()) });
    // SAFETY: filled in by the door above.
    let mut options: mlxterp_trace_options = unsafe { options.assume_init() };
    options.cache = cache;
    options
}

pub fn condition(direction: *const mlxterp_array) -> *mut mlxterp_condition {
    made(|out| unsafe { mlxterp_condition_new(c"layers.0.output".as_ptr(), direction, 0.0, 0.0, false, out) })
}

/// A generation of two tokens whose first was drawn.
pub fn generation(model: *const mlxterp_model, batch: *const mlxterp_batch) -> *mut mlxterp_generation {
    let mut options = std::mem::MaybeUninit::uninit();
    ok(unsafe { mlxterp_generate_options_init(options.as_mut_ptr()) });
    // SAFETY: filled in by the door above.
    let mut options: mlxterp_generate_options = unsafe { options.assume_init() };
    options.max_tokens = 2;
    let generation = made(|out| unsafe { mlxterp_generation_start(model, batch, &options, out) });
    unsafe { mlxterp_trace_free(made(|out| mlxterp_generation_next(generation, out))) };
    ok(unsafe { mlxterp_generation_draw(generation) });
    generation
}
/// What the tool `gradients` takes.
pub const TOOL_OPTIONS: &CStr = cr##"{"prompts": "!#", "sites": ["embed"], "metric": {"logit": {"answer": 5}}}"##;

/// Arguments for any door: good ones at first. Freed when dropped.
pub struct Case {
    pub model: *mut mlxterp_model,
    pub batch: *mut mlxterp_batch,
    pub trace: *mut mlxterp_trace,
    pub cache: *mut mlxterp_cache,
    pub intervention: *mut mlxterp_intervention,
    pub condition: *mut mlxterp_condition,
    /// One whose first token was drawn.
    pub generation: *mut mlxterp_generation,
    /// Made when it is first asked for: it takes a run.
    finding: Cell<*mut mlxterp_result>,
    /// The array arguments in order: float32, then int32 zeros; each with one element.
    pub arrays: [*mut mlxterp_array; 3],
    pub text: *const c_char,
    slot: [usize; 2],
    out: *mut c_void,
    owned: RefCell<Vec<Owned>>,
}

type Owned = (usize, unsafe fn(*mut c_void));

/// How to end a handle of a noun.
fn freer(noun: &str) -> unsafe fn(*mut c_void) {
    match noun {
        "mlxterp_model" => |p| unsafe { mlxterp_model_free(p.cast()) },
        "mlxterp_batch" => |p| unsafe { mlxterp_batch_free(p.cast()) },
        "mlxterp_trace" => |p| unsafe { mlxterp_trace_free(p.cast()) },
        "mlxterp_cache" => |p| unsafe { mlxterp_cache_free(p.cast()) },
        "mlxterp_condition" => |p| unsafe { mlxterp_condition_free(p.cast()) },
        "mlxterp_generation" => |p| unsafe { mlxterp_generation_free(p.cast()) },
        "mlxterp_intervention" => |p| unsafe { mlxterp_intervention_free(p.cast()) },
        "mlxterp_opaque" => |p| unsafe { mlxterp_opaque_free(p.cast()) },
        "mlxterp_array" => |p| unsafe { mlxterp_array_free(p.cast()) },
        "mlxterp_result" => |p| unsafe { mlxterp_result_free(p.cast()) },
        "c_char" => |p| unsafe { mlxterp_string_free(p.cast()) },
        other => panic!("nobody knows how to free a {other}"),
    }
}

impl Case {
    pub fn new(model: *const mlxterp_model, text: &'static CStr) -> Box<Self> {
        let model = unsafe { mlxterp_model_retain(model) };
        let batch = tokens(model, &[3, 7, 11]);
        let empty = made(|out| unsafe { mlxterp_cache_empty(out) });
        let trace = made(|out| unsafe { mlxterp_trace_start(model, batch, &remembering(empty), out) });
        let cache = made(|out| unsafe { mlxterp_trace_cache(trace, out) });
        unsafe { mlxterp_cache_free(empty) };
        let intervention = made(|out| unsafe { mlxterp_intervention_scale(0.5, out) });
        let int32 = mlxterp_dtype::MLXTERP_DTYPE_INT32 as u32;
        let zeros =
            || made(|out| unsafe { mlxterp_array_from_data([0i32].as_ptr().cast(), [1].as_ptr(), 1, int32, out) });
        let arrays = [floats(&[1.5]), zeros(), zeros()];
        let condition = condition(arrays[0]);
        let generation = generation(model, batch);
        let mut owned: Vec<Owned> = vec![
            (model as usize, freer("mlxterp_model")),
            (batch as usize, freer("mlxterp_batch")),
            (trace as usize, freer("mlxterp_trace")),
            (cache as usize, freer("mlxterp_cache")),
            (intervention as usize, freer("mlxterp_intervention")),
            (condition as usize, freer("mlxterp_condition")),
            (generation as usize, freer("mlxterp_generation")),
        ];
        owned.extend(arrays.map(|a| (a as usize, freer("mlxterp_array"))));
        let (slot, owned) = ([UNTOUCHED; 2], RefCell::new(owned));
        let finding = Cell::new(UNTOUCHED as *mut mlxterp_result);
        let text = text.as_ptr();
        let mut case = Box::new(Case {
            model,
            batch,
            trace,
            cache,
            intervention,
            condition,
            generation,
            finding,
            arrays,
            text,
            slot,
            out: null_mut(),
            owned,
        });
        case.out = (&raw mut case.slot).cast();
        case
    }

    /// The output pointer, as whatever the door wants.
    pub fn out<T>(&self) -> *mut T {
        self.out.cast()
    }

    /// What the door put into the output.
    pub fn result(&self) -> usize {
        // SAFETY: the slot lives as long as the case; read through the pointer that the door wrote through.
        unsafe { self.out.cast::<usize>().read() }
    }

    /// What a tool found.
    pub fn finding(&self) -> *mut mlxterp_result {
        if self.finding.get() as usize == UNTOUCHED {
            self.finding.set(gradients(self.model));
            self.owned.borrow_mut().push((self.finding.get() as usize, freer("mlxterp_result")));
        }
        self.finding.get()
    }

    pub fn without_output(&mut self) {
        self.out = null_mut();
    }

    /// Ends what a successful call handed out.
    pub fn free_result(&self, noun: &str) {
        // SAFETY: fresh from the door, and of this noun.
        unsafe { freer(noun)(self.result() as *mut c_void) };
    }

    /// Puts a pointer in the place of the argument of this noun (arrays: the one at `index`).
    pub fn spoil(&mut self, noun: &str, index: usize, pointer: *mut c_void) {
        match noun {
            "mlxterp_model" => self.model = pointer.cast(),
            "mlxterp_batch" => self.batch = pointer.cast(),
            "mlxterp_trace" => self.trace = pointer.cast(),
            "mlxterp_cache" => self.cache = pointer.cast(),
            "mlxterp_condition" => self.condition = pointer.cast(),
            "mlxterp_generation" => self.generation = pointer.cast(),
            "mlxterp_intervention" => self.intervention = pointer.cast(),
            "mlxterp_result" => self.finding.set(pointer.cast()),
            "mlxterp_array" => self.arrays[index] = pointer.cast(),
            "c_char" => self.text = pointer.cast_const().cast(),
            other => panic!("no argument of type {other}"),
        }
    }

    /// A handle of this noun that was freed.
    pub fn freed(&self, noun: &str) -> *mut c_void {
        let handle: *mut c_void = unsafe {
            match noun {
                "mlxterp_model" => mlxterp_model_retain(self.model).cast(),
                "mlxterp_batch" => tokens(self.model, &[3]).cast(),
                "mlxterp_trace" => mlxterp_trace_retain(self.trace).cast(),
                "mlxterp_cache" => made(|out| mlxterp_cache_empty(out)).cast(),
                "mlxterp_condition" => condition(self.arrays[0]).cast(),
                "mlxterp_generation" => generation(self.model, self.batch).cast(),
                "mlxterp_intervention" => made(|out| mlxterp_intervention_scale(1.0, out)).cast(),
                "mlxterp_array" => mlxterp_array_retain(self.arrays[0]).cast(),
                "mlxterp_result" => gradients(self.model).cast(),
                other => panic!("no handle of type {other}"),
            }
        };
        unsafe { freer(noun)(handle) };
        handle
    }

    /// A live handle of another noun.
    pub fn of_wrong_type(&self, noun: &str) -> *mut c_void {
        if noun == "mlxterp_array" { self.batch.cast() } else { self.arrays[0].cast() }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for (handle, free) in self.owned.get_mut().drain(..) {
            // SAFETY: made in `new`, freed here only.
            unsafe { free(handle as *mut c_void) };
        }
    }
}
