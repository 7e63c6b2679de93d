//! Which operations and kinds there are, and what they take.

use std::collections::HashMap;
use std::sync::LazyLock;

/// What an operation takes: names of its arguments in order, how many must be given.
#[derive(Debug)]
pub(super) struct Signature {
    pub params: Vec<&'static str>,
    pub required: usize,
    /// Any number of values before the named arguments.
    pub variadic: bool,
    /// Whether this version computes it.
    pub available: bool,
}

/// Tensor operations. After `|` come the arguments that may be left out; `*` stands for any number of values.
const OPS: [(&str, &str); 93] = [
    ("heads", "x n"),
    ("perhead", "x n"),
    ("flip", "x"),
    ("merge", "x"),
    ("rope", "x dims | base scaling traditional max_pos scale"),
    ("attend", "q k v | scale window chunk softcap sinks bias causal extra_mask f32"),
    ("cache", "*"),
    ("split", "x sizes | axis"),
    ("concat", "* | axis"),
    ("stack", "* | axis"),
    ("unflatten", "x axis shape"),
    ("flatten", "x | start end"),
    ("transpose", "*"),
    ("swap", "x a b"),
    ("repeat", "x n axis"),
    ("expand", "x | axis"),
    ("squeeze", "x axis"),
    ("silu", "x"),
    ("gelu", "x"),
    ("gelu_tanh", "x"),
    ("gelu_quick", "x"),
    ("relu", "x"),
    ("relu2", "x"),
    ("sigmoid", "x"),
    ("tanh", "x"),
    ("softplus", "x"),
    ("exp", "x"),
    ("log", "x"),
    ("sqrt", "x"),
    ("square", "x"),
    ("abs", "x"),
    ("floor", "x"),
    ("round", "x"),
    ("floor_", "x"),
    ("round_", "x"),
    ("act", "name x"),
    ("sum", "x | axis keep"),
    ("mean", "x | axis keep"),
    ("std", "x | axis keep"),
    ("norm", "x | axis keep"),
    ("clip", "x | low high"),
    ("minimum", "a b"),
    ("maximum", "a b"),
    ("where", "condition a b"),
    ("softmax", "x | axis"),
    ("softcap", "x c"),
    ("f32", "x"),
    ("like", "x y"),
    ("rms", "x eps"),
    ("layer_norm", "x eps"),
    ("positions", "ids | add"),
    ("broadcast_heads", "x n"),
    ("position_axis", "x | start"),
    ("reshape", "x shape"),
    ("tile", "x reps"),
    ("alibi", "x n"),
    ("xielu", "x alpha_p alpha_n beta eps"),
    ("is_start", "x"),
    ("head_conv2", "x weight"),
    ("ngram_ids", "ids g vocab m"),
    ("round_like_bf16", "v x"),
    ("bf16", "x"),
    ("top_k", "s k | by groups keep group_score fill"),
    ("combine", "y w"),
    ("sparsemixer", "s k jitter"),
    ("take", "x idx"),
    ("gather", "x idx"),
    ("put", "x idx values"),
    ("argmax", "x"),
    ("zeros_like", "x"),
    ("topk_mask", "s k"),
    ("mask_ids", "x ids | start stop"),
    ("blocksparse", "q k block local stride"),
    ("ssd", "x dt A B C D | groups"),
    ("selective_scan", "x dt A B C D"),
    ("gated_delta", "q k v g beta"),
    ("gla", "q k v decay | scale"),
    ("linear_scan", "x a"),
    ("wkv7", "r g k v a b"),
    ("token_shift", "x"),
    ("normalize_qk", "q k scale | eps"),
    // Functions of numbers, lists and text.
    ("int", "x"),
    ("min", "*"),
    ("max", "*"),
    ("len", "x"),
    ("ceil", "x"),
    ("isqrt", "x"),
    ("range", "*"),
    ("sqrt_", "x"),
    ("log_", "x"),
    ("is_list", "x"),
    ("get", "map key | otherwise"),
    ("has", "name"),
];

/// Functions of static values that are no tensor operations too.
pub(super) const STATIC: [&str; 23] = [
    "int",
    "min",
    "max",
    "len",
    "ceil",
    "isqrt",
    "range",
    "sqrt_",
    "log_",
    "is_list",
    "get",
    "find",
    "enumerate",
    "zip",
    "ints",
    "last_of",
    "bool",
    "str",
    "erfinv",
    "alibi_slopes",
    "set",
    "list",
    "bf16",
];

const MORE_STATIC: [(&str, &str); 11] = [
    ("find", "list value"),
    ("enumerate", "list"),
    ("zip", "*"),
    ("ints", "text"),
    ("last_of", "list value"),
    ("bool", "x"),
    ("str", "x"),
    ("erfinv", "x"),
    ("alibi_slopes", "n"),
    ("set", "list"),
    ("list", "list"),
];

/// Operations that descriptions of the whole field need and this version does not compute yet.
const LATER: [&str; 1] = ["matmul"];

/// Kinds of modules that are no blocks, with what they take.
const KINDS: [(&str, &str); 11] = [
    ("linear", ""),
    ("embedding", ""),
    ("rmsnorm", "| eps offset groups affine"),
    ("layernorm", "| eps offset affine"),
    ("rotary", "| dims base scaling interleaved max_pos scale traditional"),
    ("unembed", "path | bias"),
    ("param", ""),
    ("switch", ""),
    ("multilinear", "| transpose"),
    ("conv", ""),
    ("opaque", "| outputs"),
];

fn signature(text: &'static str) -> Signature {
    let (required, optional) = text.split_once('|').unwrap_or((text, ""));
    let mut params: Vec<&'static str> = required.split_whitespace().collect();
    let variadic = params.first() == Some(&"*");
    params.retain(|p| *p != "*" && *p != "-");
    let required = params.len();
    params.extend(optional.split_whitespace());
    Signature { params, required, variadic, available: text != "-" }
}

static OP_TABLE: LazyLock<HashMap<&'static str, Signature>> = LazyLock::new(|| {
    let known = OPS.iter().chain(&MORE_STATIC).map(|(name, text)| (*name, signature(text)));
    let later = LATER.iter().map(|name| (*name, signature("-")));
    known.chain(later).collect()
});

static KIND_TABLE: LazyLock<HashMap<&'static str, Signature>> =
    LazyLock::new(|| KINDS.iter().map(|(name, text)| (*name, signature(text))).collect());

/// The operation called `name`.
pub(super) fn op(name: &str) -> Option<&'static Signature> {
    OP_TABLE.get(name)
}

/// The kind called `name`.
pub(super) fn kind(name: &str) -> Option<&'static Signature> {
    KIND_TABLE.get(name)
}

/// Names of all operations, for "did you mean".
pub(super) fn op_names() -> Vec<&'static str> {
    let mut names: Vec<_> = OP_TABLE.keys().copied().collect();
    names.sort_unstable();
    names
}

/// Names of all kinds.
pub(super) fn kind_names() -> Vec<&'static str> {
    let mut names: Vec<_> = KIND_TABLE.keys().copied().collect();
    names.sort_unstable();
    names
}
