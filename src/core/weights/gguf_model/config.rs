//! `config.json` from a GGUF file's metadata and the shapes of its tensors.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::architectures::{Architecture, Fact};
use super::names::block;
use crate::core::weights::dequantise::dequantise;
use crate::core::weights::metadata::Metadata;
use crate::core::weights::raw::{RawDtype, RawTensor};
use crate::error::{Result, bail, err};

/// The configuration, and those of its numbers that placing tensors needs.
pub(super) struct Facts {
    pub(super) config: Value,
    pub(super) layers: usize,
    pub(super) query_heads: usize,
    pub(super) key_heads: usize,
}

/// Metadata whose keys begin with the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn opt_count(&self, key: &str) -> Result<Option<usize>> {
        let key = self.name(key);
        let count = self.metadata.opt_usize(&key)?;
        // Nothing that is counted here can exceed what 32 bits count.
        if let Some(n) = count.filter(|&n| n == 0 || u32::try_from(n).is_err()) {
            bail!(Config, "metadata key `{key}` is {n}, which cannot be");
        }
        Ok(count)
    }

    fn count(&self, key: &str) -> Result<usize> {
        match self.opt_count(key)? {
            Some(n) => Ok(n),
            None => self.metadata.usize(&self.name(key)),
        }
    }

    fn opt_number(&self, key: &str) -> Result<Option<f64>> {
        let key = self.name(key);
        let number = self.metadata.opt_f64(&key)?;
        if let Some(x) = number.filter(|x| !x.is_finite() || *x <= 0.0) {
            bail!(Config, "metadata key `{key}` must be a positive number and is {x}");
        }
        Ok(number.map(shortest))
    }

    fn number(&self, key: &str) -> Result<f64> {
        match self.opt_number(key)? {
            Some(x) => Ok(x),
            None => self.metadata.f64(&self.name(key)),
        }
    }
}

impl Facts {
    pub(super) fn read(
        architecture: &Architecture,
        metadata: &Metadata,
        tensors: &BTreeMap<String, RawTensor>,
    ) -> Result<Self> {
        let keys = Keys { metadata, architecture: architecture.name };
        refuse_experts(&keys)?;
        let layers = layers(&keys, tensors)?;
        let hidden = keys.count("embedding_length")?;
        let query_heads = keys.count("attention.head_count")?;
        let key_heads = keys.opt_count("attention.head_count_kv")?.unwrap_or(query_heads);
        if !query_heads.is_multiple_of(key_heads) {
            bail!(Config, "{query_heads} attention heads cannot share {key_heads} key and value heads evenly");
        }
        let mut facts = Self { config: Value::Null, layers, query_heads, key_heads };
        let reader =
            Reader { keys: &keys, tensors, facts: &facts, hidden, head_dim: head_dim(&keys, hidden, query_heads)? };
        let entries = || architecture.config.iter().copied().flatten();
        if !entries().any(|(_, fact)| matches!(fact, Fact::Rotated)) {
            reader.rotates_whole_heads()?;
        }
        let mut config = Map::new();
        config.insert("model_type".to_owned(), json!(architecture.model_type));
        for (key, fact) in entries() {
            if let Some(value) = reader.value(*fact)? {
                config.insert((*key).to_owned(), value);
            }
        }
        if let Some(id) = metadata.opt_usize("tokenizer.ggml.bos_token_id")? {
            config.insert("bos_token_id".to_owned(), json!(id));
        }
        if let Some(ids) = end_ids(metadata)? {
            config.insert("eos_token_id".to_owned(), ids);
        }
        facts.config = Value::Object(config);
        Ok(facts)
    }
}

/// What the facts of a configuration are read from.
struct Reader<'a> {
    keys: &'a Keys<'a>,
    tensors: &'a BTreeMap<String, RawTensor>,
    facts: &'a Facts,
    hidden: usize,
    head_dim: usize,
}

impl Reader<'_> {
    /// What a key of config.json holds; nothing where the file does not say and need not.
    fn value(&self, fact: Fact) -> Result<Option<Value>> {
        let Reader { keys, tensors, facts, hidden, head_dim } = self;
        Ok(Some(match fact {
            Fact::Hidden => json!(hidden),
            Fact::Layers => json!(facts.layers),
            Fact::FeedForward => json!(keys.count("feed_forward_length")?),
            Fact::QueryHeads => json!(facts.query_heads),
            Fact::KeyHeads => json!(facts.key_heads),
            Fact::HeadDim => json!(head_dim),
            Fact::Theta => json!(keys.opt_number("rope.freq_base")?.unwrap_or(10000.0)),
            Fact::Scaling => return rope_scaling(keys, tensors, *head_dim),
            Fact::Context => json!(keys.count("context_length")?),
            Fact::Vocabulary => json!(vocabulary(tensors, *hidden)?),
            Fact::Tied => json!(!tensors.contains_key("output.weight")),
            Fact::Rotated => match keys.opt_count("rope.dimension_count")? {
                Some(n) if n <= *head_dim => json!(n as f64 / *head_dim as f64),
                Some(n) => bail!(
                    Corrupt,
                    "metadata key `{}` is {n} while heads have {head_dim} dimensions",
                    keys.name("rope.dimension_count")
                ),
                None => return Ok(None),
            },
            Fact::PerHead(layers) if facts.layers == layers => json!(*hidden as f64 / facts.query_heads as f64),
            Fact::PerHead(_) => json!(head_dim),
            Fact::Number(key) => json!(keys.number(key)?),
            Fact::MaybeNumber(key) => return Ok(keys.opt_number(key)?.map(|n| json!(n))),
            Fact::MaybeCount(key) => return Ok(keys.opt_count(key)?.map(|n| json!(n))),
            Fact::MaybeSwitch(key) => return Ok(keys.metadata.opt_bool(&keys.name(key))?.map(|b| json!(b))),
            Fact::Holds(name) => json!(tensors.contains_key(name)),
            Fact::Text(text) => json!(text),
        }))
    }

    fn rotates_whole_heads(&self) -> Result<()> {
        match self.keys.opt_count("rope.dimension_count")?.filter(|n| *n != self.head_dim) {
            None => Ok(()),
            Some(n) => bail!(
                Unsupported,
                "metadata key `{}` is {n} while heads have {} dimensions",
                self.keys.name("rope.dimension_count"),
                self.head_dim
            ),
        }
    }
}

fn refuse_experts(keys: &Keys) -> Result<()> {
    // Some dense models say 0.
    match keys.metadata.opt_usize(&keys.name("expert_count"))? {
        Some(n) if n > 0 => bail!(Unsupported, "a mixture of {n} experts; from GGUF files only dense models are read"),
        _ => Ok(()),
    }
}

/// The number of blocks: what the metadata say, which must be what the file holds.
fn layers(keys: &Keys, tensors: &BTreeMap<String, RawTensor>) -> Result<usize> {
    let said = keys.count("block_count")?;
    let held: BTreeSet<usize> = tensors.keys().filter_map(|name| Some(block(name)?.0)).collect();
    if held.len() != said {
        bail!(
            Corrupt,
            "metadata key `{}` is {said}, but the file holds tensors of {} blocks",
            keys.name("block_count"),
            held.len()
        );
    }
    Ok(said)
}

fn head_dim(keys: &Keys, hidden: usize, heads: usize) -> Result<usize> {
    let dim = match keys.opt_count("attention.key_length")? {
        Some(n) => n,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => bail!(Config, "{heads} attention heads do not divide an embedding of {hidden} evenly"),
    };
    if let Some(n) = keys.opt_count("attention.value_length")?.filter(|&n| n != dim) {
        bail!(
            Unsupported,
            "metadata key `{}` is {n} while heads have {dim} dimensions",
            keys.name("attention.value_length")
        );
    }
    Ok(dim)
}

/// The embedding has one row per token; it knows best how many there are.
fn vocabulary(tensors: &BTreeMap<String, RawTensor>, hidden: usize) -> Result<usize> {
    let embedding = tensors.get("token_embd.weight");
    let embedding = embedding.ok_or_else(|| err!(Corrupt, "the file has no tensor `token_embd.weight`"))?;
    match embedding.shape() {
        &[rows, columns] if columns == hidden => Ok(rows),
        shape => bail!(Corrupt, "tensor `token_embd.weight` has shape {shape:?} where rows of {hidden} are expected"),
    }
}

/// Chat models end a turn with another token than a text.
fn end_ids(metadata: &Metadata) -> Result<Option<Value>> {
    let text = metadata.opt_usize("tokenizer.ggml.eos_token_id")?;
    let turn = metadata.opt_usize("tokenizer.ggml.eot_token_id")?;
    Ok(match (text, turn) {
        (Some(a), Some(b)) if a != b => Some(json!([a, b])),
        (Some(id), _) | (None, Some(id)) => Some(json!(id)),
        (None, None) => None,
    })
}

fn rope_scaling(keys: &Keys, tensors: &BTreeMap<String, RawTensor>, head_dim: usize) -> Result<Option<Value>> {
    let kind = keys.metadata.opt_str(&keys.name("rope.scaling.type"))?.filter(|&kind| kind != "none");
    if let Some(factors) = tensors.get("rope_freqs.weight") {
        if let Some(kind) = kind {
            bail!(Unsupported, "both `rope_freqs.weight` and a rope scaling of type `{kind}`");
        }
        return Ok(Some(json!({"rope_type": "factors", "factors": rope_factors(factors, head_dim)?})));
    }
    let factor = || keys.number("rope.scaling.factor");
    match kind {
        // The key of older files.
        None => Ok(keys.opt_number("rope.scale_linear")?.map(|f| json!({"rope_type": "linear", "factor": f}))),
        Some("linear") => Ok(Some(json!({"rope_type": "linear", "factor": factor()?}))),
        Some("yarn") => yarn(keys, factor()?).map(Some),
        Some(other) => bail!(Unsupported, "a rope scaling of type `{other}` (none, linear and yarn are read)"),
    }
}

fn yarn(keys: &Keys, factor: f64) -> Result<Value> {
    for key in ["yarn_ext_factor", "yarn_attn_factor", "yarn_log_multiplier", "alpha"] {
        let key = keys.name(&format!("rope.scaling.{key}"));
        if keys.metadata.get(&key).is_some() {
            bail!(Unsupported, "a yarn scaling with the metadata key `{key}`");
        }
    }
    let original = match keys.opt_count("rope.scaling.original_context_length")? {
        Some(n) => n,
        None => keys.count("context_length")?,
    };
    let mut scaling = json!({"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original});
    for (key, name) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
        if let Some(x) = keys.opt_number(&format!("rope.scaling.{key}"))? {
            scaling[name] = json!(x);
        }
    }
    if let Some(x) = keys.opt_number("rope.scaling.attn_factor")? {
        // ggml multiplies it by the usual factor of yarn, of which a configuration states the product.
        scaling["attention_factor"] = json!(x * (0.1 * factor.ln() + 1.0).max(1.0));
    }
    Ok(scaling)
}

fn rope_factors(tensor: &RawTensor, head_dim: usize) -> Result<Vec<f64>> {
    let RawDtype::Ggml(kind) = tensor.dtype() else {
        bail!(Unsupported, "tensor `rope_freqs.weight` of type {}", tensor.dtype())
    };
    if tensor.shape() != [head_dim / 2] {
        bail!(
            Corrupt,
            "tensor `rope_freqs.weight` has shape {:?} where [{}] is expected",
            tensor.shape(),
            head_dim / 2
        );
    }
    let mut factors = vec![0f32; tensor.len()];
    dequantise(kind, tensor.bytes(), &mut factors)?;
    if let Some(bad) = factors.iter().find(|f| !f.is_finite() || **f <= 0.0) {
        bail!(Corrupt, "tensor `rope_freqs.weight` holds {bad} where positive factors are expected");
    }
    Ok(factors.into_iter().map(|f| shortest(f.into())).collect())
}

/// A float32 that was widened, as the decimal number that its writer meant: 1e-5, not 9.99999974737875e-6.
fn shortest(x: f64) -> f64 {
    let narrow = x as f32;
    if f64::from(narrow) == x { narrow.to_string().parse().unwrap_or(x) } else { x }
}
