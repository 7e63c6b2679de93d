//! Modules that the host computes: a function of the user's inside the run.
//!
//! The function gets lazy values and gives lazy values back. It is called when the run is built as far as its module, again
//! when a write made what it gave out of date, and so must depend on nothing but what it is given.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::kernels::{Made, Surroundings};
use crate::core::arch::tape::Instr;
use crate::core::tensor::Array;
use crate::error::{ErrorKind, Result, bail};

/// What the function of an opaque module is told besides its inputs.
#[derive(Clone, Copy, Debug)]
pub struct OpaqueCall<'a> {
    /// The module's path.
    pub path: &'a str,
    /// How many values the description wants back.
    pub outputs: usize,
    /// Positions of each row of the batch that are no padding.
    pub lengths: &'a [usize],
}

type Function = dyn Fn(&OpaqueCall<'_>, &[Array]) -> Result<Vec<Array>> + Send + Sync;

/// The function of an opaque module. Cloning shares it.
#[derive(Clone)]
pub struct Opaque(Arc<Function>);

impl Opaque {
    /// From a closure: inputs to as many outputs as the description says.
    pub fn new(f: impl Fn(&OpaqueCall<'_>, &[Array]) -> Result<Vec<Array>> + Send + Sync + 'static) -> Self {
        Opaque(Arc::new(f))
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opaque({:#x})", self.address())
    }
}

thread_local! {
    /// The functions that this thread is inside of, with their modules.
    static INSIDE: RefCell<Vec<(usize, String)>> = const { RefCell::new(Vec::new()) };
}

/// Takes a function off the list on every way out, panics included.
struct Entered;

impl Entered {
    fn new(function: &Opaque, path: &str) -> Result<Self> {
        INSIDE.with_borrow_mut(|inside| {
            let own = (function.address(), path.to_owned());
            if inside.contains(&own) {
                bail!(
                    Busy,
                    "the function of the opaque module '{path}' is running already: it must not run the model that called it"
                );
            }
            inside.push(own);
            Ok(Entered)
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(Vec::pop);
    }
}

/// Calls the function of instruction `index`.
pub(super) fn call(instr: &Instr, index: u32, x: &[&Array], around: &Surroundings<'_>) -> Result<Made> {
    let function = around.parameters.opaque(index)?;
    let (path, outputs) = (instr.path.as_str(), instr.outputs.len());
    let _entered = Entered::new(function, path)?;
    let inputs: Vec<Array> = x.iter().map(|a| (*a).clone()).collect();
    let told = OpaqueCall { path, outputs, lengths: around.batch.lengths() };
    let made = (function.0)(&told, &inputs).map_err(|e| match e.kind() {
        ErrorKind::Callback => e,
        _ => e.context(format!("the function of the opaque module '{path}'")),
    })?;
    if made.len() != outputs {
        let n = made.len();
        bail!(Callback, "the function of the opaque module '{path}' gave {n} values, the description wants {outputs}");
    }
    Ok(made.into_iter().collect())
}
