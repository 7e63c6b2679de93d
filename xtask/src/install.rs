//! Headers, library, MLX, pkg-config file and CMake package under a prefix, which may be moved afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, setup, shell};

/// Installs a library that was built already, or builds it with optimisation first.
pub fn run(prefix: &Path, library: Option<&Path>) -> Result<()> {
    let library = match library {
        Some(path) => path.to_owned(),
        None => {
            setup::run(None)?;
            shell::run(shell::cargo().args(["build", "--release", "--lib"]))?;
            shell::target_directory()?.join("release").join(file_name())
        }
    };
    headers(&prefix.join("include"))?;
    let lib = prefix.join("lib");
    place_library(&library, &lib)?;
    mlx(&lib.join("mlxterp"), &library)?;
    pkg_config(&lib.join("pkgconfig"))?;
    cmake(&lib.join("cmake/mlxterp"))
}

/// What cargo calls the library.
pub fn file_name() -> &'static str {
    if cfg!(target_os = "macos") { "libmlxterp.dylib" } else { "libmlxterp.so" }
}

fn headers(to: &Path) -> Result<()> {
    let from = paths::root().join("include");
    copy_folder(&from, to)
}

/// The library under its full name, and links from the names that a loader and a linker ask for.
fn place_library(library: &Path, lib: &Path) -> Result<()> {
    fs::create_dir_all(lib)?;
    let version = env!("CARGO_PKG_VERSION");
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    let names = if cfg!(target_os = "macos") {
        [format!("libmlxterp.{version}.dylib"), format!("libmlxterp.{major}.dylib"), "libmlxterp.dylib".into()]
    } else {
        [format!("libmlxterp.so.{version}"), format!("libmlxterp.so.{major}"), "libmlxterp.so".into()]
    };
    copy(library, &lib.join(&names[0]))?;
    if cfg!(target_os = "macos") {
        rename("@rpath/libmlxterp.dylib", &lib.join(&names[0]))?;
    }
    for link in &names[1..] {
        let link = lib.join(link);
        if link.is_symlink() || link.exists() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(&names[0], link)?;
    }
    Ok(())
}

/// The name under which programs on a Mac ask for a library, which cargo gives it none of. A changed library needs a new
/// signature; "-" is none in particular.
pub fn rename(name: &str, library: &Path) -> Result<()> {
    shell::run(Command::new("install_name_tool").args(["-id", name]).arg(library))?;
    shell::run(Command::new("codesign").args(["--force", "--sign", "-"]).arg(library))
}

/// MLX itself, in a folder of its own that our library's run path names: others' MLX is not in the way, and ours in
/// nobody's. On a Mac MLX is inside our library, and looks for its kernels beside it.
fn mlx(to: &Path, library: &Path) -> Result<()> {
    if cfg!(target_os = "macos") {
        let kernels = find(&library.with_file_name("build"), "mlx.metallib");
        let kernels = kernels.context("no mlx.metallib was built: MLX's Metal kernels are missing")?;
        return copy(&kernels, &to.with_file_name("mlx.metallib"));
    }
    let wheel = paths::wheel();
    copy_folder(&wheel.join("mlx/lib"), &to.join("mlx/lib"))?;
    copy_folder(&wheel.join("mlx_cpu.libs"), &to.join("mlx_cpu.libs"))
}

fn pkg_config(to: &Path) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "# Wherever this file lies: nothing here names a folder of the machine that made it.\n\
         prefix=${{pcfiledir}}/../..\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\n\
         Name: mlxterp\n\
         Description: Look inside language models and change what happens there\n\
         Version: {version}\n\
         Libs: -L${{libdir}} -lmlxterp\n\
         Cflags: -I${{includedir}}\n"
    );
    write(&to.join("mlxterp.pc"), &text)
}

fn cmake(to: &Path) -> Result<()> {
    let (version, soname) = (env!("CARGO_PKG_VERSION"), concat!("libmlxterp.so.", env!("CARGO_PKG_VERSION_MAJOR")));
    let file = if cfg!(target_os = "macos") { "libmlxterp.dylib" } else { soname };
    let name = if cfg!(target_os = "macos") { "@rpath/libmlxterp.dylib" } else { soname };
    let config = format!(
        "# mlxterp::c is the library with its C header, mlxterp::cpp the same with the C++17 one.\n\
         get_filename_component(_mlxterp_prefix \"${{CMAKE_CURRENT_LIST_DIR}}/../../..\" ABSOLUTE)\n\
         if(NOT TARGET mlxterp::c)\n  \
           add_library(mlxterp::c SHARED IMPORTED)\n  \
           set_target_properties(mlxterp::c PROPERTIES\n    \
             IMPORTED_LOCATION \"${{_mlxterp_prefix}}/lib/{file}\"\n    \
             IMPORTED_SONAME \"{name}\"\n    \
             INTERFACE_INCLUDE_DIRECTORIES \"${{_mlxterp_prefix}}/include\")\n  \
           add_library(mlxterp::cpp INTERFACE IMPORTED)\n  \
           set_target_properties(mlxterp::cpp PROPERTIES\n    \
             INTERFACE_LINK_LIBRARIES mlxterp::c\n    \
             INTERFACE_COMPILE_FEATURES cxx_std_17)\n\
         endif()\n\
         unset(_mlxterp_prefix)\n"
    );
    write(&to.join("mlxterp-config.cmake"), &config)?;
    // Before 1.0 a new minor version may change anything, afterwards a new major one.
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let series = if major == "0" { format!("{major}.{minor}") } else { major.to_owned() };
    let text = format!(
        "set(PACKAGE_VERSION {version})\n\
         string(FIND \"${{PACKAGE_FIND_VERSION}}.\" \"{series}.\" _mlxterp_at)\n\
         if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION AND _mlxterp_at EQUAL 0)\n  \
           set(PACKAGE_VERSION_COMPATIBLE TRUE)\n\
         endif()\n\
         if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)\n  \
           set(PACKAGE_VERSION_EXACT TRUE)\n\
         endif()\n"
    );
    write(&to.join("mlxterp-config-version.cmake"), &text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file without a folder")?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A copy in place of what is there: a program that has the old one open keeps it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a file without a folder")?)?;
    if to.exists() {
        fs::remove_file(to)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a file without a name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else if !is_of_the_set_up(&path) {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

/// What the set-up left beside the libraries.
fn is_of_the_set_up(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n == ".done") || path.extension().is_some_and(|e| e == "c")
}

/// A file of this name somewhere below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
    let here = entries.iter().find(|p| p.file_name().is_some_and(|n| n == name)).cloned();
    here.or_else(|| entries.iter().filter(|p| p.is_dir()).find_map(|p| find(p, name)))
}
