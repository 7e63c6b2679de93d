//! Writes the C header from the doors, with cbindgen and nothing else.

use std::path::Path;

use super::c_doors::{Doors, read, sources};

/// The text of `include/mlxterp.h`.
pub fn header(root: &Path) -> String {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let doors = read(root);
    config.after_includes = Some(after_includes());
    config.trailer = Some(macros(&doors) + &config.trailer.unwrap());
    // Enums go in as numbers, so no function mentions them and cbindgen would leave them out.
    config.export.include = doors.enums.into_iter().map(|(name, _)| name).collect();
    let builder =
        sources(root).into_iter().fold(cbindgen::Builder::new().with_config(config), |b, file| b.with_src(file));
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

/// The version, and for Swift: enums may hold numbers that a later version adds.
fn after_includes() -> String {
    let versions = [
        ("MAJOR", env!("CARGO_PKG_VERSION_MAJOR")),
        ("MINOR", env!("CARGO_PKG_VERSION_MINOR")),
        ("PATCH", env!("CARGO_PKG_VERSION_PATCH")),
    ];
    let defines: String = versions.iter().map(|(part, n)| format!("#define MLXTERP_VERSION_{part} {n}\n")).collect();
    let attribute = "__attribute__((enum_extensibility(open)))";
    format!("\n{defines}\n#if defined(__clang__)\n#pragma clang attribute push({attribute}, apply_to = enum)\n#endif")
}

/// Where a struct is filled in, the size that the program knows goes with it.
fn macros(doors: &Doors) -> String {
    let names = doors.functions.iter().filter_map(|(name, ..)| name.strip_suffix("_sized"));
    let defines = names.map(|name| format!("#define {name}(options) {name}_sized((options), sizeof *(options))\n"));
    format!(
        "/* Filled in to the size that this header gives them, whichever library is met. */\n{}\n",
        defines.collect::<String>()
    )
}
