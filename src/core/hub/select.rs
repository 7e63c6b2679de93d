//! Which files of a repository make a model: settings, tokenizer and safetensors, never code or pickles.

use super::HubId;
use crate::error::{Result, bail, nearest};

/// The index of a checkpoint in several files.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Settings and tokenizer files, fetched where they exist.
const SIDE_FILES: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    INDEX,
];

/// Whether `name` is that of a GGUF file.
pub(super) fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether the loader reads weights from a file of this name.
pub(super) fn is_weights(name: &str) -> bool {
    name.starts_with("model") && name.ends_with(".safetensors") && !name.contains(['/', '\\'])
}

/// The files of the repository to fetch for `id`.
pub(super) fn wanted(id: &HubId, files: &[String]) -> Result<Vec<String>> {
    let gguf: Vec<&str> = files.iter().map(String::as_str).filter(|f| is_gguf(f)).collect();
    if let Some(file) = &id.gguf {
        if files.contains(file) {
            return Ok(vec![file.clone()]);
        }
        let hint = match nearest(file, gguf.iter().copied(), 3) {
            near if !near.is_empty() => format!("did you mean {}?", near.join(" or ")),
            _ if gguf.is_empty() => "it has no GGUF files".into(),
            _ => format!("its GGUF files are {}", some_of(&gguf)),
        };
        bail!(NotFound, "{} has no file {file}; {hint}", id.repository);
    }

    let has_config = files.iter().any(|f| f == "config.json");
    let weights: Vec<&String> = files.iter().filter(|f| is_weights(f)).collect();
    if !has_config || weights.is_empty() {
        let name = &id.repository;
        if !gguf.is_empty() {
            let ids: Vec<String> = gguf.iter().map(|file| format!("{name}/{file}")).collect();
            bail!(NotFound, "{name} holds GGUF files; name one: {}", some_of(&ids));
        }
        let pickled = |f: &&String| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| f.ends_with(end));
        if files.iter().any(|f| pickled(&f)) {
            bail!(
                Unsupported,
                "{name} has pickled PyTorch weights only, which are not read since that would run their code; convert \
                 them: python -m mlx_lm convert --hf-path {name}"
            );
        }
        let missing = if has_config { "model*.safetensors" } else { "config.json" };
        bail!(NotFound, "{name} has no {missing}, so it is no model this library can load");
    }
    let side = SIDE_FILES.iter().filter(|s| files.iter().any(|f| f == *s)).map(|s| s.to_string());
    Ok(side.chain(weights.into_iter().cloned()).collect())
}

fn some_of<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: &str, files: &[&str]) -> Result<Vec<String>> {
        let files: Vec<String> = files.iter().map(|f| f.to_string()).collect();
        super::wanted(&HubId::parse(id).unwrap(), &files)
    }

    #[test]
    fn code_pickles_and_other_formats_stay_where_they_are() {
        let files = [
            "README.md",
            "config.json",
            "modeling_x.py",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "consolidated.safetensors",
            "onnx/model.safetensors",
            "tokenizer.json",
            "tokenizer.model",
            "chat_template.jinja",
        ];
        assert_eq!(
            wanted("o/n", &files).unwrap(),
            [
                "config.json",
                "tokenizer.json",
                "chat_template.jinja",
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors"
            ]
        );
    }

    #[test]
    fn a_repository_without_a_model_says_what_it_has() {
        let told = |id: &str, files: &[&str]| wanted(id, files).unwrap_err().message().to_owned();
        assert!(told("o/n", &["a-q4.gguf", "a-q8.gguf"]).contains("o/n/a-q4.gguf, o/n/a-q8.gguf"));
        assert!(told("o/n/a-q5.gguf", &["a-q4.gguf"]).contains("did you mean a-q4.gguf?"));
        assert!(told("o/n/x.gguf", &["config.json"]).contains("no GGUF files"));
        assert!(told("o/n", &["config.json", "pytorch_model.bin"]).contains("mlx_lm convert"));
        assert!(told("o/n", &["config.json", "README.md"]).contains("has no model*.safetensors"));
        assert!(told("o/n", &["model.safetensors"]).contains("has no config.json"));
        assert_eq!(wanted("o/n/a.gguf", &["a.gguf", "b.gguf"]).unwrap(), ["a.gguf"]);
    }
}
