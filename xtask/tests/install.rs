//! `cargo xtask install`, the folder moved elsewhere, and then projects that use it through pkg-config and CMake.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE: &str = if cfg!(target_os = "macos") { "libmlxterp.dylib" } else { "libmlxterp.so" };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    let said = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s).into_owned()).concat();
    assert!(output.status.success(), "{shown}: {}\n{said}", output.status);
    said
}

/// Whether a program is there; where `CI` is set it must be.
fn present(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing: apt-get install {program}");
    if !found {
        println!("not checked: {program} is not installed (apt-get install {program})");
    }
    found
}

/// A folder that is deleted when the test is over, with the library installed and then moved.
struct Moved {
    scratch: PathBuf,
    prefix: PathBuf,
}

impl Moved {
    fn new(name: &str) -> Self {
        let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("install-{name}"));
        let _ = fs::remove_dir_all(&scratch);
        let first = scratch.join("first");
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        let library = xtask.with_file_name("deps").join(FILE);
        assert!(library.exists(), "{} is missing: `cargo test --workspace` builds it", library.display());
        run(Command::new(xtask).args(["install", "--prefix"]).arg(&first).arg("--library").arg(library));
        // Twice: what is there is replaced.
        let again = xtask.with_file_name("deps").join(FILE);
        run(Command::new(xtask).args(["install", "--prefix"]).arg(&first).arg("--library").arg(again));
        let prefix = scratch.join("somewhere else");
        fs::rename(&first, &prefix).unwrap();
        Self { scratch, prefix }
    }

    /// A program and where it is to be built.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs a program that reads a site of the tiny model: it works, with the libraries of the prefix and no others.
    fn works(&self, program: &Path) {
        let mut command = Command::new(program);
        // Cargo sets it for tests, to its own folders.
        command.arg(root().join("tests/fixtures/tiny/llama")).env_remove("LD_LIBRARY_PATH");
        let said = run(&mut command);
        assert!(said.starts_with("[1, 4, 24]"), "{said}");
        if cfg!(target_os = "linux") {
            let prefix = self.prefix.canonicalize().unwrap();
            for name in ["libmlxterp.so", "libmlx.so", "libblas"] {
                let line = said.lines().find(|l| l.contains(&format!("/{name}")));
                let line = line.unwrap_or_else(|| panic!("{name} is not loaded:\n{said}"));
                assert!(line.contains(prefix.to_str().unwrap()), "{name} is another: {line}");
            }
        }
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Prints the shape of a site, then what the process has loaded.
const CONSUMER: &str = r#"#include <mlxterp.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
int main(int, char **argv) {
    const auto model = mlxterp::model::load(argv[1]);
    const auto trace = model.trace(model.batch_of_tokens({{3, 7, 11, 20}}));
    const mlxterp::array value = trace["layers.1.attn.output"];
    value.eval();
    const auto shape = value.shape();
    std::printf("[%d, %d, %d]\n", int(shape[0]), int(shape[1]), int(shape[2]));
    std::fflush(stdout);
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::cout << line << '\n';
    }
}
"#;

#[test]
fn a_moved_prefix_works_through_pkg_config() {
    if !present("pkg-config") {
        return;
    }
    let moved = Moved::new("pkg-config");
    let folder = moved.folder("consumer");
    let source = folder.join("consumer.cpp");
    fs::write(&source, CONSUMER).unwrap();
    let asked = |what: &[&str]| {
        let mut ask = Command::new("pkg-config");
        ask.args(what).arg("mlxterp").env("PKG_CONFIG_PATH", moved.prefix.join("lib/pkgconfig"));
        run(&mut ask).trim().to_owned()
    };
    assert_eq!(asked(&["--modversion"]), env!("CARGO_PKG_VERSION"));
    // Through a shell, as a makefile does: pkg-config quotes the blank in the folder's name.
    let program = folder.join("consumer");
    let line = format!(
        "c++ -std=c++17 '{}' -o '{}' {} '-Wl,-rpath,{}'",
        source.display(),
        program.display(),
        asked(&["--cflags", "--libs"]),
        moved.prefix.join("lib").display(),
    );
    run(Command::new("sh").args(["-ec", &line]));
    moved.works(&program);
}

#[test]
fn a_moved_prefix_works_through_cmake() {
    if !present("cmake") {
        return;
    }
    let moved = Moved::new("cmake");
    let folder = moved.folder("consumer");
    fs::write(folder.join("consumer.cpp"), CONSUMER).unwrap();
    let project = "cmake_minimum_required(VERSION 3.16)\n\
                   project(consumer CXX)\n\
                   find_package(mlxterp 0.1 REQUIRED)\n\
                   find_package(mlxterp 0.1 REQUIRED)\n\
                   add_executable(consumer consumer.cpp)\n\
                   target_link_libraries(consumer PRIVATE mlxterp::cpp)\n";
    fs::write(folder.join("CMakeLists.txt"), project).unwrap();
    let build = folder.join("build");
    let configure = |version: &str| {
        let text = project.replace("mlxterp 0.1", &format!("mlxterp {version}"));
        fs::write(folder.join("CMakeLists.txt"), text).unwrap();
        let mut cmake = Command::new("cmake");
        cmake.arg("-S").arg(&folder).arg("-B").arg(&build);
        cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", moved.prefix.display()));
        cmake
    };
    for too_new in ["0.2", "1.0", "0.1.99"] {
        assert!(!configure(too_new).output().unwrap().status.success(), "version {too_new} was accepted");
    }
    run(&mut configure("0.1"));
    run(Command::new("cmake").arg("--build").arg(&build));
    moved.works(&build.join("consumer"));
}

#[test]
fn the_headers_and_nothing_of_the_build_are_installed() {
    let moved = Moved::new("files");
    let mut files = Vec::new();
    let mut folders = vec![moved.prefix.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(&moved.prefix).unwrap().display().to_string());
            }
        }
    }
    for wanted in ["include/mlxterp.h", "include/mlxterp.hpp", "include/mlxterp/trace.hpp", "lib/pkgconfig/mlxterp.pc"]
    {
        assert!(files.iter().any(|f| f == wanted), "{wanted} is missing: {files:?}");
    }
    assert!(!files.iter().any(|f| f.ends_with(".done") || f.ends_with(".c") || f.ends_with(".rs")), "{files:?}");
    for text in files.iter().filter(|f| f.ends_with(".pc") || f.ends_with(".cmake")) {
        let said = fs::read_to_string(moved.prefix.join(text)).unwrap();
        assert!(!said.contains(root().to_str().unwrap()), "{text} names a folder of this machine:\n{said}");
    }
}
