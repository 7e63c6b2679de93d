//! Every code fence of the README and the docs, executed, and the Rust and Python examples. What each language on a
//! fence means is in docs/contributing.md; the C examples are run by c_programs.rs.

#[path = "support/c_build.rs"]
mod c_build;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A fenced block: its language and attributes, its text, and where it stands.
struct Fence {
    info: String,
    text: String,
    place: String,
}

impl Fence {
    fn language(&self) -> &str {
        self.info.split([',', ' ']).next().unwrap_or_default()
    }

    /// The file that stands here when the site is built, where the fence is nothing but that.
    fn included(&self) -> Option<&str> {
        self.text.trim().strip_prefix("--8<-- \"")?.strip_suffix('"')
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, troubleshooting, guidelines, and every page of the site.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        ["README.md", "TROUBLESHOOTING.md", "CLAUDE.md", "SAE_ROADMAP.md"].iter().map(|p| root().join(p)).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

fn fences(page: &Path) -> Vec<Fence> {
    let text = std::fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(root()).unwrap().display();
    let mut found: Vec<Fence> = Vec::new();
    let mut open = false;
    let mut indent = String::new();
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                indent = line[..line.len() - line.trim_start().len()].to_owned();
                let place = format!("{name}:{}", number + 1);
                found.push(Fence { info: info.trim().to_owned(), text: String::new(), place });
            }
            None if open => {
                let fence = found.last_mut().unwrap();
                fence.text.push_str(line.strip_prefix(indent.as_str()).unwrap_or(line));
                fence.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "{name}: a fence is not closed");
    found
}

/// All fences of a language, page by page.
fn by_page(language: &str) -> Vec<(PathBuf, Vec<Fence>)> {
    let of_language = |p: PathBuf| {
        let of = |f: &Fence| f.language() == language && f.included().is_none();
        let chosen: Vec<Fence> = fences(&p).into_iter().filter(of).collect();
        (!chosen.is_empty()).then_some((p, chosen))
    };
    pages().into_iter().filter_map(of_language).collect()
}

/// Where cargo puts libraries and test programs.
fn deps() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

fn mlx() -> PathBuf {
    root().join("target/mlx/wheel/mlx/lib")
}

fn require_model() {
    let model = root().join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(model.exists(), "the snippets use the small model: run `cargo xtask fetch-model` first");
}

/// Runs a command in the repository's root; a failure shows where the snippet stands and what it said.
fn run(command: &mut Command, place: &str) {
    let output = command.current_dir(root()).output().unwrap_or_else(|e| panic!("{place}: {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{place}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn every_fence_has_a_language_that_is_dealt_with() {
    let known = ["rust", "c", "cpp", "python", "swift", "sh", "console", "json", "text", "toml", "arch"];
    for fence in pages().iter().flat_map(|p| fences(p)) {
        assert!(known.contains(&fence.language()), "{}: a fence of language {:?}", fence.place, fence.info);
    }
}

/// What cargo would tell rustc or rustdoc. Cargo itself is not asked: with a test's environment variables it would build
/// some crates anew, under the feet of the other tests.
fn with_the_library(compiler: &mut Command) {
    compiler
        .args(["--edition", "2024", "--extern"])
        .arg(format!("mlxterp={}", deps().join("libmlxterp.rlib").display()));
    compiler.arg("-L").arg(format!("dependency={}", deps().display()));
    for folder in [mlx(), root().join("target/mlx/mlxc")] {
        compiler.arg("-L").arg(format!("native={}", folder.display()));
    }
    compiler.arg("-C").arg(format!("link-arg=-Wl,-rpath,{}", mlx().display()));
}

#[test]
fn rust_snippets_run() {
    require_model();
    for (page, _) in by_page("rust") {
        let mut rustdoc = Command::new(std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into()));
        rustdoc.arg("--test").arg(&page).arg("--test-run-directory").arg(root());
        with_the_library(&mut rustdoc);
        run(&mut rustdoc, &page.display().to_string());
    }
}

fn compiled_snippets_run(language: &str, compile: fn(&Path, &Path) -> PathBuf) {
    require_model();
    for fence in by_page(language).into_iter().flat_map(|(_, f)| f) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join(fence.place.replace(['/', ':'], "_")).with_extension(language);
        std::fs::write(&source, &fence.text).unwrap();
        let program = compile(&source, folder.path());
        run(&mut Command::new(program), &fence.place);
    }
}

#[test]
fn c_snippets_run() {
    compiled_snippets_run("c", c_build::compile);
}

#[test]
fn cpp_snippets_run() {
    compiled_snippets_run("cpp", c_build::compile_cpp);
}

/// A page that shows a file shows one that a test runs: the tour, in every language, and the app over swift-bridge.
#[test]
fn included_files_are_those_that_run() {
    let ran = [
        "examples/c/tour.c",
        "examples/cpp/tour.cpp",
        "examples/python/tour.py",
        "examples/swift/Tour/main.swift",
        "examples/swift-bridge/src/lib.rs",
        "examples/swift-bridge/src/lens.rs",
        "examples/swift-bridge/swift/main.swift",
    ];
    let fences = pages().iter().flat_map(|p| fences(p)).collect::<Vec<_>>();
    let included: Vec<&str> = fences.iter().filter_map(Fence::included).collect();
    for file in ran {
        assert!(root().join(file).exists() && included.contains(&file), "{file} is not shown");
    }
    assert_eq!(included.len(), ran.len(), "{included:?}");
}

#[test]
fn python_snippets_run() {
    require_model();
    for (page, fences) in by_page("python") {
        let (with_mlx, plain): (Vec<Fence>, Vec<Fence>) = fences.into_iter().partition(|f| f.info == "python,mlx");
        for (python, fences) in [(python(), plain), (python_with_mlx(), with_mlx)] {
            if !fences.is_empty() {
                run_python(&python, &page, &fences);
            }
        }
    }
}

/// All these fences of a page, one after another in one interpreter.
fn run_python(python: &Path, page: &Path, fences: &[Fence]) {
    // Blank lines in between keep the line numbers of the page in tracebacks.
    let mut program = String::new();
    for fence in fences {
        let line: usize = fence.place.rsplit(':').next().unwrap().parse().unwrap();
        program.push_str(&"\n".repeat(line - program.matches('\n').count()));
        program.push_str(&fence.text);
    }
    let name = page.strip_prefix(root()).unwrap().display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name.replace('/', "_")).with_extension("py");
    std::fs::write(&file, program).unwrap();
    let mut python = Command::new(python);
    python.arg(&file).env("PYTHONPATH", root().join("bindings/python"));
    python.env("MLXTERP_LIBRARY", c_build::library());
    run(&mut python, &name);
}

/// The environment that has MLX's Python package too.
fn python_with_mlx() -> PathBuf {
    let own = root().join("target/venv/python-mlx/bin/python");
    assert!(
        own.exists(),
        "the snippets with MLX need its Python package: run `cargo xtask test --only python-mlx` once"
    );
    own
}

/// The environment of the Python tests, which has numpy; else the system's, if that has it.
fn python() -> PathBuf {
    let own = root().join("target/venv/python/bin/python");
    if own.exists() {
        return own;
    }
    let numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    let there = numpy.is_ok_and(|o| o.status.success());
    assert!(there, "the Python snippets need numpy: run `cargo xtask test --only python` once");
    "python3".into()
}

#[test]
fn examples_run() {
    require_model();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("quickstart");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("examples/rust/quickstart.rs").arg("-o").arg(&program);
    with_the_library(&mut rustc);
    run(&mut rustc, "examples/rust/quickstart.rs");
    run(&mut Command::new(program), "examples/rust/quickstart.rs");
    let mut python = Command::new(python());
    python.arg("examples/python/quickstart.py").env("PYTHONPATH", root().join("bindings/python"));
    python.env("MLXTERP_LIBRARY", c_build::library());
    run(&mut python, "examples/python/quickstart.py");
}

#[test]
fn shell_snippets_run() {
    require_model();
    let path = std::env::var("PATH").unwrap();
    let here = Path::new(env!("CARGO_BIN_EXE_mlxterp")).parent().unwrap();
    for fence in by_page("sh").into_iter().flat_map(|(_, f)| f) {
        let mut bash = Command::new("bash");
        bash.args(["-eu", "-c", &fence.text]).env("PATH", format!("{}:{path}", here.display()));
        run(&mut bash, &fence.place);
    }
}

#[test]
fn json_snippets_parse() {
    for fence in by_page("json").into_iter().flat_map(|(_, f)| f) {
        let parsed = serde_json::from_str::<serde_json::Value>(&fence.text);
        assert!(parsed.is_ok(), "{}: {}", fence.place, parsed.unwrap_err());
    }
}

/// Set-up commands are not run from inside a test, but the tasks they name must exist.
#[test]
fn named_tasks_exist() {
    let main = std::fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    let exists = |task: &str| {
        let variant: String = task.split('-').map(|w| w[..1].to_uppercase() + &w[1..]).collect();
        main.lines().any(|l| l.trim_start().trim_end_matches([',', ' ', '{']) == variant)
    };
    for fence in by_page("console").into_iter().flat_map(|(_, f)| f) {
        for line in fence.text.lines().filter_map(|l| l.trim().strip_prefix("cargo xtask ")) {
            let task = line.split_whitespace().next().unwrap();
            assert!(exists(task), "{}: there is no task {task:?} in xtask", fence.place);
        }
    }
}

/// mkdocs checks the links of the site; these are those of the pages in the root.
#[test]
fn links_of_the_root_lead_somewhere() {
    let mut checked = 0;
    for page in pages().iter().filter(|p| p.parent() == Some(root())) {
        let text = std::fs::read_to_string(page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let there = std::fs::read_to_string(root().join(file));
            let there = there.unwrap_or_else(|e| panic!("{}: link to {target}: {e}", page.display()));
            let slug = |heading: &str| heading.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
            let found = anchor.is_empty() || there.lines().any(|l| l.starts_with('#') && slug(l) == anchor);
            assert!(found, "{}: {file} has no heading for #{anchor}", page.display());
            checked += 1;
        }
    }
    assert!(checked > 15, "only {checked} links were found");
}

/// Messages that TROUBLESHOOTING.md quotes: each piece between `…` stands somewhere in the sources, or is another
/// program's.
#[test]
fn quoted_messages_are_still_given() {
    let of_others = [
        "cannot find -lmlxc",
        "error while loading shared libraries: libmlxterp.so.0",
        "error while loading shared libraries: libmlx.so",
    ];
    let mut sources = String::new();
    let mut folders = vec![root().join("src"), root().join("xtask/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let sources = as_printed(&sources);
    let mut checked = 0;
    for fence in fences(&root().join("TROUBLESHOOTING.md")).iter().filter(|f| f.language() == "text") {
        for line in fence.text.lines().filter(|l| !of_others.contains(l)) {
            for piece in line.split('…').map(str::trim).filter(|p| p.len() > 3) {
                assert!(sources.contains(piece), "{}: no message has {piece:?}", fence.place);
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "only {checked} pieces of messages were found");
}

/// Rust text with string continuations joined and escapes undone.
fn as_printed(source: &str) -> String {
    let mut text = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(start) = line.strip_suffix('\\') {
            line = start.to_owned() + lines.next().unwrap_or_default().trim_start();
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.replace("\\\"", "\"").replace("{{", "{").replace("\\n", "\n")
}
