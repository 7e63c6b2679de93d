//! The lazy graph itself, for proofs that two ways build the same one.

use super::engine::{check, gate};
use super::ops::VectorArray;
use super::{Array, engine};
use crate::error::{Result, err};

/// MLX's graph of the outputs in Graphviz's language, one node an operation.
pub fn graph_dot<'a>(outputs: impl IntoIterator<Item = &'a Array>) -> Result<String> {
    let _gate = gate();
    engine::stream();
    let list = VectorArray::new(outputs);
    let mut buffer: *mut libc::c_char = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: `open_memstream` owns the buffer until `fclose`; it is freed below.
    unsafe {
        let file = libc::open_memstream(&mut buffer, &mut size);
        if file.is_null() {
            return Err(err!(Io, "no memory for the graph's text"));
        }
        let namer = mlx_sys::mlx_node_namer_new();
        let status = mlx_sys::mlx_export_to_dot(file.cast(), namer, list.raw());
        mlx_sys::mlx_node_namer_free(namer);
        libc::fclose(file);
        let text = String::from_utf8_lossy(std::slice::from_raw_parts(buffer.cast::<u8>(), size)).into_owned();
        libc::free(buffer.cast());
        check(status)?;
        Ok(text)
    }
}

/// Number of operations in the graph of the outputs.
pub fn graph_size<'a>(outputs: impl IntoIterator<Item = &'a Array>) -> Result<usize> {
    Ok(graph_dot(outputs)?.matches("shape=rectangle").count())
}
