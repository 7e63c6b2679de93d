//! The Swift snippets of the docs as programs: one a page, its fences one after another.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Writes a package into `to` and gives the names of its programs.
pub fn write(to: &Path) -> Result<Vec<String>> {
    let root = paths::root();
    let mut pages = vec![root.join("README.md")];
    markdown(&root.join("docs"), &mut pages)?;
    markdown(&root.join("swift"), &mut pages)?;
    pages.sort();
    let mut names = Vec::new();
    for page in pages {
        let program = program(&page)?;
        if program.is_empty() {
            continue;
        }
        let stem = page.file_stem().context("a page without a name")?.to_string_lossy();
        let name = format!("Page_{}", stem.replace(['-', '.'], "_"));
        if names.contains(&name) {
            bail!("two pages with Swift snippets are called '{stem}': rename one");
        }
        write_if_new(&to.join("Sources").join(&name).join("main.swift"), &program)?;
        names.push(name);
    }
    let library = ".product(name: \"MLXTerp\", package: \"mlxterp\")";
    let targets: String = names
        .iter()
        .map(|n| format!("        .executableTarget(name: \"{n}\", dependencies: [{library}]),\n"))
        .collect();
    let manifest = format!(
        "// swift-tools-version: 6.0\nimport PackageDescription\n\nlet package = Package(\n    name: \"snippets\",\n    \
         platforms: [.macOS(.v14)],\n    dependencies: [.package(name: \"mlxterp\", path: \"{}\")],\n    targets: [\n\
         {targets}    ]\n)\n",
        root.display()
    );
    write_if_new(&to.join("Package.swift"), &manifest)?;
    Ok(names)
}

fn markdown(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            markdown(&path, pages)?;
        } else if path.extension().is_some_and(|e| e == "md") {
            pages.push(path);
        }
    }
    Ok(())
}

/// The Swift fences of a page; errors name the page's own lines. Empty without one.
fn program(page: &Path) -> Result<String> {
    let text = fs::read_to_string(page)?;
    let mut program = String::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if !inside && line.trim() == "```swift" {
            inside = true;
            program += &format!("#sourceLocation(file: \"{}\", line: {})\n", page.display(), number + 2);
        } else if inside && line.trim() == "```" {
            inside = false;
        } else if inside && line.trim_start().starts_with("--8<--") {
            // A file that runs by itself.
            return Ok(String::new());
        } else if inside {
            program.push_str(line);
            program.push('\n');
        }
    }
    Ok(program)
}

/// Nothing is compiled anew when nothing changed.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a file without a folder")?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
