//! Tensor names: ggml's and the model's.

use crate::error::{Result, bail, err};

/// Whose heads a tensor's rows belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Heads {
    /// The query's.
    Query,
    /// The key's.
    Key,
}

/// Where a tensor belongs.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// Under this name; with the heads that its rows are split into where their order matters.
    At(String, Option<Heads>),
    /// In no module: its content is in the configuration, or follows from it.
    Nowhere,
}

/// Finds the place of the tensor that the file calls `source`.
pub(super) fn place(architecture: &str, source: &str, layers: usize) -> Result<Place> {
    let unknown = || err!(Unsupported, "tensor `{source}` has no place in a {architecture} model as known here");
    let at = |name: &str| Ok(Place::At(name.to_owned(), None));
    match source {
        "token_embd.weight" => return at("model.embed_tokens.weight"),
        "output_norm.weight" => return at("model.norm.weight"),
        "output.weight" => return at("lm_head.weight"),
        "rope_freqs.weight" => return Ok(Place::Nowhere),
        _ => {}
    }
    let (layer, rest) = block(source).ok_or_else(unknown)?;
    if layer >= layers {
        bail!(Corrupt, "tensor `{source}` belongs to block {layer}, but there are {layers} (0 to {})", layers - 1);
    }
    let (module, leaf) = rest.rsplit_once('.').ok_or_else(unknown)?;
    let (path, heads, biased) = match module {
        "attn_q" => ("self_attn.q_proj", Some(Heads::Query), true),
        "attn_k" => ("self_attn.k_proj", Some(Heads::Key), true),
        "attn_v" => ("self_attn.v_proj", None, true),
        "attn_output" => ("self_attn.o_proj", None, true),
        "ffn_gate" => ("mlp.gate_proj", None, true),
        "ffn_up" => ("mlp.up_proj", None, true),
        "ffn_down" => ("mlp.down_proj", None, true),
        "attn_norm" => ("input_layernorm", None, false),
        "ffn_norm" => ("post_attention_layernorm", None, false),
        "attn_q_norm" if architecture == "qwen3" => ("self_attn.q_norm", None, false),
        "attn_k_norm" if architecture == "qwen3" => ("self_attn.k_norm", None, false),
        // Angles that old files carry in every block; they follow from the base.
        "attn_rot_embd" => return Ok(Place::Nowhere),
        _ => return Err(unknown()),
    };
    match leaf {
        "weight" => {}
        "bias" if biased => {}
        _ => return Err(unknown()),
    }
    Ok(Place::At(format!("model.layers.{layer}.{path}.{leaf}"), heads))
}

/// The number of a block and what follows it: `blk.3.attn_q.weight` is (3, `attn_q.weight`).
pub(super) fn block(source: &str) -> Option<(usize, &str)> {
    let (number, rest) = source.strip_prefix("blk.")?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}
