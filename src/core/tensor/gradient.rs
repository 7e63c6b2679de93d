//! Reverse-mode differentiation: MLX's vector-Jacobian product.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mlx_sys::mlx_vector_array;

use super::engine::{check, gate, stream};
use super::ops::VectorArray;
use super::{Array, ops};
use crate::error::{Result, err};

/// What happened inside the call, kept until MLX has returned.
type Outcome = Option<std::thread::Result<Result<()>>>;

struct Call<'a> {
    function: &'a mut dyn FnMut(&[Array]) -> Result<Array>,
    outcome: Outcome,
}

/// The value of `f` at `at`, summed over all its elements, and the gradient of that sum with respect to each array of
/// `at` (their shapes and dtypes). Lazy. `f` is called once, with arrays that MLX follows.
pub fn value_and_gradients(at: &[Array], mut f: impl FnMut(&[Array]) -> Result<Array>) -> Result<(Array, Vec<Array>)> {
    let _gate = gate();
    stream();
    let mut call = Call { function: &mut f, outcome: None };
    let primals = VectorArray::new(at);
    let one = Array::scalar(1.0, super::Dtype::Float32)?;
    let cotangents = VectorArray::new([&one]);
    let (mut values, mut gradients) = (VectorArray::new([]), VectorArray::new([]));
    // SAFETY: the closure borrows `call`, which outlives it: it is freed before this function goes on.
    let status = unsafe {
        let payload = (&raw mut call).cast::<c_void>();
        let closure = mlx_sys::mlx_closure_new_func_payload(Some(enter), payload, None);
        let status = mlx_sys::mlx_vjp(values.raw_mut(), gradients.raw_mut(), closure, primals.raw(), cotangents.raw());
        mlx_sys::mlx_closure_free(closure);
        status
    };
    match call.outcome.take() {
        Some(Err(panic)) => resume_unwind(panic),
        Some(Ok(Err(e))) => {
            // MLX's own words for it say nothing new.
            let _ = check(status);
            return Err(e);
        }
        _ => check(status)?,
    }
    let value = values.to_arrays()?.pop().ok_or_else(|| err!(Backend, "MLX gave no value beside the gradients"))?;
    Ok((value, gradients.to_arrays()?))
}

/// The function as MLX calls it. Nothing unwinds through C++.
unsafe extern "C" fn enter(out: *mut mlx_vector_array, given: mlx_vector_array, payload: *mut c_void) -> i32 {
    // SAFETY: the payload is the `Call` of the frame above; the inputs live during the call.
    let call = unsafe { &mut *payload.cast::<Call<'_>>() };
    let work = || -> Result<()> {
        let value = (call.function)(&VectorArray::arrays_of(given)?)?;
        let total = ops::sum_all(&ops::cast(&value, super::Dtype::Float32)?)?;
        let list = VectorArray::new([&total]);
        // SAFETY: `out` is where MLX wants the outputs; the list is copied.
        check(unsafe { mlx_sys::mlx_vector_array_set(out, list.raw()) })
    };
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let failed = !matches!(outcome, Ok(Ok(())));
    call.outcome = Some(outcome);
    i32::from(failed)
}
