//! Chat templates: a conversation as the text that a model was trained on.
//!
//! Templates are Jinja, written for the environment in which transformers renders them; this one is set up the same way.
//! They come from the model's files and are untrusted: they can reach nothing but what they are given, and their work is
//! bounded.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value as JinjaValue};
use minijinja::{Environment, Error as JinjaError, ErrorKind as JinjaKind};
use serde_json::{Map, Value};

use super::python_json;
use crate::error::{ErrorKind, Result, bail, err};

/// What a render may cost: far more than any template takes for a conversation that fits a context.
const FUEL: u64 = 50_000_000;

/// A template with the special tokens it may name.
#[derive(Clone, Debug, Default)]
pub(super) struct ChatTemplate {
    pub source: Option<String>,
    /// Text of each token with a role, by role: `bos_token`, `eos_token`, …
    pub tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The text of a conversation. See [`super::Tokenizer::apply_chat_template`].
    pub fn render(&self, messages: &Value, add_generation_prompt: bool, extra: &Map<String, Value>) -> Result<String> {
        let source = match (extra.get("chat_template"), &self.source) {
            (Some(Value::String(own)), _) | (None, Some(own)) => own,
            (Some(other), _) => bail!(InvalidArgument, "chat_template is {other}: it must be the text of a template"),
            (None, None) => bail!(
                NotFound,
                "the model has no chat template (chat_template.jinja, tokenizer_config.json or GGUF metadata): give it a \
                 plain prompt, or a template as 'chat_template'"
            ),
        };
        let mut names = Map::new();
        names.extend(self.tokens.iter().map(|(role, text)| (role.clone(), Value::String(text.clone()))));
        names.insert("tools".into(), Value::Null);
        names.insert("documents".into(), Value::Null);
        names.extend(extra.iter().filter(|(k, _)| *k != "chat_template").map(|(k, v)| (k.clone(), v.clone())));
        names.insert("messages".into(), Value::Array(checked(messages)?));
        names.insert("add_generation_prompt".into(), Value::Bool(add_generation_prompt));
        let source = without_marks(source);
        let environment = environment()?;
        let template = environment.template_from_str(&source).map_err(|e| told(&e))?;
        template.render(JinjaValue::from(minijinja::value::Serde(&names))).map_err(|e| told(&e))
    }
}

/// The messages, each an object with a role; reasoning under every name that templates look for.
fn checked(messages: &Value) -> Result<Vec<Value>> {
    let Value::Array(list) = messages else {
        bail!(InvalidArgument, "messages must be a list of {{\"role\": …, \"content\": …}}, not {messages}");
    };
    if list.is_empty() {
        bail!(InvalidArgument, "messages is empty: give at least one message");
    }
    let mut out = Vec::with_capacity(list.len());
    for (i, message) in list.iter().enumerate() {
        let Value::Object(fields) = message else {
            bail!(InvalidArgument, "message {i} is {message}: it must be an object such as {{\"role\": \"user\", …}}");
        };
        if !fields.get("role").is_some_and(Value::is_string) {
            bail!(InvalidArgument, "message {i} has no role: give \"role\": \"user\", \"assistant\" or \"system\"");
        }
        // A key without a value is a key that is not there: templates would write the word "None".
        let mut fields: Map<String, Value> =
            fields.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let names = ["reasoning_content", "thinking", "reasoning"];
        if let Some(text) = names.iter().find_map(|n| fields.get(*n)).cloned() {
            fields.entry("thinking").or_insert_with(|| text.clone());
            fields.insert("reasoning_content".into(), text);
        }
        out.push(Value::Object(fields));
    }
    Ok(out)
}

/// As transformers' environment: block tags swallow their line, Python's methods, JSON as Python writes it.
fn environment() -> Result<Environment<'static>> {
    let mut e = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    e.set_syntax(syntax.map_err(|e| err!(Backend, "{e}"))?);
    e.set_fuel(Some(FUEL));
    e.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    e.add_function("raise_exception", |text: String| -> std::result::Result<String, JinjaError> {
        Err(JinjaError::new(JinjaKind::InvalidOperation, format!("{RAISED}{text}")))
    });
    e.add_function("strftime_now", |format: String| -> std::result::Result<String, JinjaError> {
        let now = jiff::ZonedDateTime::now();
        jiff::fmt::strtime::format(&format, &now)
            .map_err(|e| JinjaError::new(JinjaKind::InvalidOperation, format!("strftime_now({format:?}): {e}")))
    });
    e.add_filter("tojson", tojson);
    Ok(e)
}

/// Marks what a template itself refuses.
const RAISED: &str = "raise_exception: ";

/// A template's error: what it refuses is the conversation's fault, all else the template's.
fn told(e: &JinjaError) -> crate::error::Error {
    if let Some(text) = e.detail().and_then(|d| d.strip_prefix(RAISED)) {
        return err!(InvalidArgument, "the chat template refuses the conversation: {text}");
    }
    crate::error::Error::new(ErrorKind::Unsupported, format!("the chat template cannot be rendered: {e}"))
}

/// `x | tojson`, with the arguments of Python's `json.dumps`.
fn tojson(value: &JinjaValue, options: Kwargs) -> std::result::Result<JinjaValue, JinjaError> {
    let bad = |what: String| JinjaError::new(JinjaKind::InvalidOperation, what);
    if value.is_undefined() {
        return Err(bad("tojson of something undefined".into()));
    }
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Vec<String>>>("separators")? {
        None => None,
        Some(two) => match <[String; 2]>::try_from(two) {
            Ok([item, key]) => Some((item, key)),
            Err(other) => return Err(bad(format!("tojson separators {other:?}: two are needed"))),
        },
    };
    let style = python_json::Style {
        indent,
        separators,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let value = serde_json::to_value(value).map_err(|e| bad(format!("tojson: {e}")))?;
    Ok(JinjaValue::from(python_json::dumps(&value, &style)))
}

/// Without `{% generation %}` and `{% endgeneration %}`, which mark an assistant's words for training and print nothing.
/// An `if` in their place keeps what they do to the spaces around them.
fn without_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let Some(end) = rest[at..].find("%}").map(|n| at + n) else { break };
        let inner = &rest[at + 2..end];
        let word = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let instead = match word {
            "generation" => Some(inner.replace(word, " if true ")),
            "endgeneration" => Some(inner.replace(word, " endif ")),
            _ => None,
        };
        out.push_str(&rest[..at + 2]);
        out.push_str(instead.as_deref().unwrap_or(inner));
        out.push_str("%}");
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    out
}
