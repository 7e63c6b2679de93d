//! Opaque modules: functions of the caller inside a run.

use std::ffi::{CString, c_char, c_void};

use super::array::{mlxterp_array, mlxterp_destroy_fn};
use super::door::{door, list, output, text};
use super::library::mlxterp_status;
use super::registry::{Handle, borrow, give, take};
use crate::core::tensor::Array;
use crate::core::trace::{Opaque, OpaqueCall};
use crate::error::{Error, ErrorKind, Result, bail};

/// The function of an opaque module (`router: opaque(outputs=2)` in a description), to be given to a model at load.
/// Immutable; any thread may use it.
pub struct mlxterp_opaque(pub(super) Opaque);

impl Handle for mlxterp_opaque {
    const NOUN: &'static str = "opaque";
}

/// What the function of an opaque module is told. Everything in it is borrowed for the call.
#[repr(C)]
pub struct mlxterp_opaque_call {
    /// Size of this struct.
    pub struct_size: usize,
    /// Path of the module.
    pub path: *const c_char,
    /// The values that go in, lazy, `input_count` of them.
    pub inputs: *const *const mlxterp_array,
    /// How many.
    pub input_count: usize,
    /// How many values the description wants back.
    pub output_count: usize,
    /// Number of rows of the batch.
    pub rows: usize,
    /// Positions of each row that are no padding.
    pub lengths: *const usize,
}

/// The function of an opaque module: puts `output_count` new handles into `out_values` (NULL on entry; the library frees
/// them). Any status but OK stops the call that ran it with MLXTERP_STATUS_CALLBACK. It may be called again for the same
/// run, and must depend on nothing but its inputs. It must not use the run or the model that called it (BUSY).
pub type mlxterp_opaque_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        call: *const mlxterp_opaque_call,
        out_values: *mut *mut mlxterp_array,
    ) -> i32,
>;

struct Function {
    call: unsafe extern "C" fn(*mut c_void, *const mlxterp_opaque_call, *mut *mut mlxterp_array) -> i32,
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
}

// SAFETY: the header says that function and destroy may be called from any thread, one at a time.
unsafe impl Send for Function {}
unsafe impl Sync for Function {}

impl Drop for Function {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy {
            // SAFETY: the caller's function on the caller's pointer, once.
            unsafe { destroy(self.user) };
        }
    }
}

impl Function {
    fn run(&self, call: &OpaqueCall<'_>, inputs: &[Array]) -> Result<Vec<Array>> {
        let path = CString::new(call.path).unwrap_or_default();
        let lent: Vec<*mut mlxterp_array> = inputs.iter().map(|a| give(mlxterp_array::new(a.clone()))).collect();
        let told = mlxterp_opaque_call {
            struct_size: size_of::<mlxterp_opaque_call>(),
            path: path.as_ptr(),
            inputs: lent.as_ptr().cast(),
            input_count: lent.len(),
            output_count: call.outputs,
            rows: call.lengths.len(),
            lengths: call.lengths.as_ptr(),
        };
        let mut out = vec![std::ptr::null_mut(); call.outputs];
        // SAFETY: the caller's function; everything lent lives through the call, and `out` has room for every output.
        let status = unsafe { (self.call)(self.user, &told, out.as_mut_ptr()) };
        lent.into_iter().for_each(|handle| drop(take(handle)));
        // Taken back before anything else, so that none is left behind.
        let made: Vec<_> = out.iter().map(|handle| take(*handle)).collect();
        if status != 0 {
            let text = format!("the function of the opaque module '{}' failed with status {status}", call.path);
            return Err(Error::new(ErrorKind::Callback, text));
        }
        let mut values = Vec::with_capacity(made.len());
        for (at, value) in made.into_iter().enumerate() {
            match value {
                Some(value) => values.push(value.array),
                None if out[at].is_null() => bail!(
                    Callback,
                    "the function of the opaque module '{}' left output {at} of {} empty",
                    call.path,
                    call.outputs
                ),
                None => bail!(
                    Callback,
                    "the function of the opaque module '{}' gave something that is no array handle (output {at})",
                    call.path
                ),
            }
        }
        Ok(values)
    }
}

/// A function for opaque modules (see mlxterp_model_options.opaques). `destroy(user)` is called exactly once, when no
/// handle and no model uses it any more, on failure too; it may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_opaque_new(
    function: mlxterp_opaque_fn,
    user: *mut c_void,
    destroy: mlxterp_destroy_fn,
    out_opaque: *mut *mut mlxterp_opaque,
) -> mlxterp_status {
    unsafe extern "C" fn nothing(_: *mut c_void, _: *const mlxterp_opaque_call, _: *mut *mut mlxterp_array) -> i32 {
        0
    }
    let owned = Function { call: function.unwrap_or(nothing), user, destroy };
    door(move || {
        let out = output(out_opaque, std::ptr::null_mut(), "out_opaque")?;
        if function.is_none() {
            bail!(InvalidArgument, "function is NULL");
        }
        *out = give(mlxterp_opaque(Opaque::new(move |call, inputs| owned.run(call, inputs))));
        Ok(())
    })
}

/// Ends a handle; models that were loaded with it keep theirs. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mlxterp_opaque_free(opaque: *mut mlxterp_opaque) {
    drop(take(opaque));
}

/// The functions that options name.
pub(super) fn opaques(
    names: *const *const c_char,
    functions: *const *const mlxterp_opaque,
    count: usize,
) -> Result<Vec<(String, Opaque)>> {
    let names = list(names, count, "options.opaque_names")?;
    let functions = list(functions, count, "options.opaques")?;
    let pairs = names.iter().zip(functions);
    pairs.map(|(n, f)| Ok((text(*n, "an opaque module's name")?.to_owned(), borrow(*f)?.0.clone()))).collect()
}
