//! Compiles and runs C programs against the shared library of this build.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FILE: &str = if cfg!(target_os = "macos") { "libmlxterp.dylib" } else { "libmlxterp.so" };

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shared library that was compiled together with this test.
pub fn library() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_mlxterp")).parent().unwrap();
    let path = programs.join("deps").join(FILE);
    assert!(path.exists(), "{} is missing: cargo builds it with the tests", path.display());
    path
}

/// Whether a program can be run.
pub fn present(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Fails with what the command said.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output
}

/// Compiles a C file into a program in `folder`, which also gets the library under the names a linker and a loader ask for.
pub fn compile(source: &Path, folder: &Path) -> PathBuf {
    build("cc", "-std=c99", source, folder)
}

/// The same for C++.
pub fn compile_cpp(source: &Path, folder: &Path) -> PathBuf {
    build("c++", "-std=c++17", source, folder)
}

fn build(compiler: &str, standard: &str, source: &Path, folder: &Path) -> PathBuf {
    let soname = concat!("libmlxterp.so.", env!("CARGO_PKG_VERSION_MAJOR"));
    for name in [FILE, soname] {
        std::os::unix::fs::symlink(library(), folder.join(name)).unwrap();
    }
    let program = folder.join(source.file_stem().unwrap());
    let mut cc = Command::new(compiler);
    cc.args([standard, "-g", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"]).arg(root().join("include"));
    cc.arg(source).arg("-o").arg(&program).arg("-L").arg(folder).arg("-lmlxterp");
    cc.arg(format!("-Wl,-rpath,{}", folder.display()));
    if cfg!(target_os = "linux") {
        // The library knows where MLX is; the linker need not.
        cc.arg("-Wl,--allow-shlib-undefined");
    }
    succeed(&mut cc);
    program
}

/// Valgrind, told to fail on any error and on any definite leak. None, with the reason printed, where it is missing.
pub fn valgrind() -> Option<Command> {
    if !present("valgrind") {
        assert!(std::env::var_os("CI").is_none(), "valgrind is missing: apt-get install valgrind");
        println!("not checked: valgrind is not installed (apt-get install valgrind)");
        return None;
    }
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--leak-check=full", "--error-exitcode=99"]);
    command.args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
    command.env("LD_PRELOAD", plain_blas());
    Some(command)
}

/// The reference BLAS of the MLX wheel: MKL's code for the newest processors stops valgrind.
fn plain_blas() -> String {
    let folder = root().join("target/mlx/blas/reference");
    let files = std::fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap().path());
    let wanted = files.filter(|p| {
        let name = p.file_name().unwrap().to_string_lossy();
        name.starts_with("libblas") || name.starts_with("liblapack")
    });
    wanted.map(|p| p.display().to_string()).collect::<Vec<_>>().join(":")
}
