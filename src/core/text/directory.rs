//! A tokenizer from a model directory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::chat::ChatTemplate;
use super::special::{self, SpecialTokens};
use super::tokenizer::{Tokenizer, foreign, surround};
use crate::error::{Result, bail, err};

impl Tokenizer {
    /// The tokenizer of a model directory: `tokenizer.json`, with the special tokens and the chat template that the
    /// settings files beside it name.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        if !dir.is_dir() {
            bail!(NotFound, "{}: no such directory", dir.display());
        }
        let path = dir.join("tokenizer.json");
        if !path.is_file() {
            return Err(missing(dir));
        }
        let bytes = std::fs::read(&path).map_err(|e| err!(Io, "{}: {e}", path.display()))?;
        read(dir, &bytes).map_err(|e| e.context(path.display()))
    }
}

fn missing(dir: &Path) -> crate::error::Error {
    let dir = dir.display();
    let convert = format!(
        "python -c \"from transformers import AutoTokenizer as T; T.from_pretrained('{dir}').save_pretrained('{dir}')\""
    );
    for other in ["tokenizer.model", "vocab.json", "tekken.json"] {
        if Path::new(&dir.to_string()).join(other).is_file() {
            return err!(
                Unsupported,
                "{dir}: there is no tokenizer.json, only {other}, which this library does not read; write one with: {convert}"
            );
        }
    }
    err!(
        NotFound,
        "{dir}: tokenizer.json is missing; copy it (with tokenizer_config.json) from the repository the model came from"
    )
}

fn read(dir: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    // Some contradictions in a file (a merge longer than every token) make the crate panic; the file is untrusted.
    let parsed = catch_unwind(AssertUnwindSafe(|| tokenizers::Tokenizer::from_bytes(bytes)));
    let mut inner = match parsed {
        Ok(Ok(tokenizer)) => tokenizer,
        Ok(Err(e)) => bail!(Corrupt, "not a tokenizer this library can read: {e}"),
        Err(_) => bail!(Corrupt, "not a tokenizer this library can read: its parts contradict each other"),
    };

    let settings = Settings::read(dir)?;
    settings.add_missing_tokens(&mut inner)?;
    let special = settings.special(&inner);
    settings.surround(&mut inner, &special)?;
    let role = |role: &&str| Some(((*role).to_owned(), settings.role(role)?.content));
    let chat = ChatTemplate {
        source: chat_template(dir, &settings.tokenizer)?,
        tokens: special::ROLES.iter().filter_map(role).collect(),
    };
    Tokenizer::new(inner, special, chat)
}

/// The settings files of a model directory; absent ones are empty.
struct Settings {
    tokenizer: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    config: Map<String, Value>,
    generation: Map<String, Value>,
}

impl Settings {
    fn read(dir: &Path) -> Result<Self> {
        let object = |name: &str| json_object(dir, name);
        Ok(Self {
            tokenizer: object("tokenizer_config.json")?,
            special_tokens_map: object("special_tokens_map.json")?,
            config: object("config.json")?,
            generation: object("generation_config.json")?,
        })
    }

    /// The token with `role`; `tokenizer_config.json` goes before the older `special_tokens_map.json`.
    fn role(&self, role: &str) -> Option<AddedToken> {
        let value = self.tokenizer.get(role).or_else(|| self.special_tokens_map.get(role))?;
        special::added_token(value, true)
    }

    /// Adds tokens that only the settings know, as transformers (and so mlx-lm) does: first those of
    /// `added_tokens_decoder` by id, then those with a role.
    fn add_missing_tokens(&self, inner: &mut tokenizers::Tokenizer) -> Result<()> {
        let mut listed: Vec<(u64, AddedToken)> = Vec::new();
        if let Some(Value::Object(tokens)) = self.tokenizer.get("added_tokens_decoder") {
            for (id, value) in tokens {
                if let (Ok(id), Some(token)) = (id.parse(), special::added_token(value, false)) {
                    listed.push((id, token));
                }
            }
        }
        listed.sort_by_key(|(id, _)| *id);
        let roles = special::ROLES.iter().filter_map(|role| self.role(role));
        for mut token in listed.into_iter().map(|(_, token)| token).chain(roles) {
            if inner.get_added_vocabulary().get_vocab().contains_key(&token.content) {
                continue;
            }
            token.special |= special::ROLES.iter().any(|r| self.role(r).is_some_and(|t| t.content == token.content));
            inner.add_tokens([token]).map_err(foreign)?;
        }
        Ok(())
    }

    fn special(&self, inner: &tokenizers::Tokenizer) -> SpecialTokens {
        let id = |role: &str| self.role(role).and_then(|token| inner.token_to_id(&token.content));
        let bos_token = self.role("bos_token").map(|token| token.content);
        // mlx-lm stops at the tokenizer's EOS and at those of the model, where generation settings win.
        let listed = special::ids(&self.generation, "eos_token_id");
        let mut eos = listed.or_else(|| special::ids(&self.config, "eos_token_id")).unwrap_or_default();
        eos.extend(id("eos_token"));
        SpecialTokens { bos: id("bos_token"), bos_token, eos, pad: id("pad_token"), unk: id("unk_token") }
    }

    /// An explicit `add_bos_token` or `add_eos_token` replaces the post-processor of `tokenizer.json`, as it does in
    /// transformers: many published files carry a post-processor that contradicts it.
    fn surround(&self, inner: &mut tokenizers::Tokenizer, special: &SpecialTokens) -> Result<()> {
        let flag = |name: &str| self.tokenizer.get(name).and_then(Value::as_bool);
        let (add_bos, add_eos) = (flag("add_bos_token"), flag("add_eos_token"));
        if add_bos.is_none() && add_eos.is_none() {
            return Ok(());
        }
        let eos = self.role("eos_token").map(|token| token.content);
        let with_id = |token: Option<&String>, wanted: Option<bool>| match (token, wanted) {
            (Some(text), Some(true)) => inner.token_to_id(text).map(|id| (text.clone(), id)),
            _ => None,
        };
        let bos = with_id(special.bos_token.as_ref(), add_bos);
        let eos = with_id(eos.as_ref(), add_eos);
        surround(inner, bos.as_ref().map(|(t, id)| (t.as_str(), *id)), eos.as_ref().map(|(t, id)| (t.as_str(), *id)))
    }
}

/// The chat template: a file of its own, or a string or a list of named strings in `tokenizer_config.json`.
fn chat_template(dir: &Path, settings: &Map<String, Value>) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        return std::fs::read_to_string(&path).map(Some).map_err(|e| err!(Io, "{}: {e}", path.display()));
    }
    let apart = json_object(dir, "chat_template.json")?;
    Ok(match apart.get("chat_template").or_else(|| settings.get("chat_template")) {
        Some(Value::String(template)) => Some(template.clone()),
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str())
            .map(str::to_owned),
        _ => None,
    })
}

fn json_object(dir: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(Map::new());
    }
    let bytes = std::fs::read(&path).map_err(|e| err!(Io, "{}: {e}", path.display()))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => bail!(Config, "{}: the file should hold a JSON object", path.display()),
        Err(e) => bail!(Config, "{}: {e}", path.display()),
    }
}
