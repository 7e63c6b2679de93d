//! Rust declarations of mlx-c, as mlx-sys's own build script makes them on a Mac.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, python, shell};

/// mlx-c leaves the half types out where the compiler has none; mlx-rs names them everywhere.
const HALF_TYPES: &str = "
#[repr(transparent)]
#[derive(Debug, Default, Copy, Clone)]
pub struct float16_t(pub u16);
pub type bfloat16_t = u16;
pub unsafe fn mlx_array_data_float16(arr: mlx_array) -> *const float16_t {
    unsafe { mlx_array_data_uint16(arr).cast() }
}
pub unsafe fn mlx_array_data_bfloat16(arr: mlx_array) -> *const bfloat16_t {
    unsafe { mlx_array_data_uint16(arr) }
}
pub unsafe fn mlx_array_item_float16(res: *mut float16_t, arr: mlx_array) -> ::std::os::raw::c_int {
    unsafe { mlx_array_item_uint16(res.cast(), arr) }
}
pub unsafe fn mlx_array_item_bfloat16(res: *mut bfloat16_t, arr: mlx_array) -> ::std::os::raw::c_int {
    unsafe { mlx_array_item_uint16(res, arr) }
}
";

/// Writes `target/mlx/bindings/bindings.rs`.
pub fn generate(source: &Path) -> Result<()> {
    let dir = paths::mlx().join("bindings");
    let key = format!("{} {HALF_TYPES}", source.display());
    shell::once(&dir, &key, "bindings of mlx-c", || {
        let python = python::environment("build")?;
        let where_is = "import clang.native, os; print(os.path.dirname(clang.native.__file__))";
        let libclang = shell::output(Command::new(&python).args(["-c", where_is]))?;
        let gcc_headers = shell::output(Command::new("c++").arg("-print-file-name=include"))?;
        // SAFETY: the only thread; libclang's loader reads the variable below.
        unsafe { std::env::set_var("LIBCLANG_PATH", libclang.trim()) };
        let mut headers: Vec<_> =
            std::fs::read_dir(source.join("mlx/c"))?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
        headers.retain(|p| p.extension().is_some_and(|e| e == "h"));
        headers.sort();
        let mut builder = bindgen::Builder::default()
            .rust_target("1.73.0".parse().ok().context("bindgen does not know Rust 1.73")?)
            .clang_arg(format!("-I{}", source.display()))
            .clang_arg(format!("-isystem{}", gcc_headers.trim()))
            .blocklist_function("malloc")
            .blocklist_function("realloc");
        for header in headers {
            builder = builder.header(header.to_string_lossy());
        }
        let mut text = builder.generate().context("bindgen failed on mlx-c")?.to_string();
        if !text.contains("float16_t") {
            text.push_str(HALF_TYPES);
        }
        std::fs::write(dir.join("bindings.rs"), text)?;
        Ok(())
    })
}
