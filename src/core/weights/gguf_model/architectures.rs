//! What llama.cpp writes, architecture by architecture, as data: which tensors, in what order their rows lie, which
//! keys say what a config.json says.
//!
//! The names are those of its `gguf-py/gguf/constants.py`, rows and shifts those of its `convert_hf_to_gguf.py`.

use self::Fact::*;
use self::Order::*;

/// The order in which a tensor's rows lie in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Order {
    /// The model's.
    Same,
    /// Within each query head the two halves take turns, for a rotation of neighbours.
    QueryHalves,
    /// The same, for key heads.
    KeyHalves,
    /// All queries, then all keys, then all values; the model has the three of each head side by side.
    Apart,
}

/// What a key of config.json is made of. Keys of metadata stand without the architecture's name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fact {
    Hidden,
    Layers,
    FeedForward,
    QueryHeads,
    KeyHeads,
    HeadDim,
    Theta,
    Scaling,
    Context,
    Vocabulary,
    /// No head of its own.
    Tied,
    /// The part of a head that is rotated.
    Rotated,
    /// What scores are divided by the root of: a head's width; in a model of that many layers, hidden size over heads.
    PerHead(usize),
    /// A number that must be there.
    Number(&'static str),
    /// A number, a count or a switch that may be missing.
    MaybeNumber(&'static str),
    MaybeCount(&'static str),
    MaybeSwitch(&'static str),
    /// Whether the file has that tensor.
    Holds(&'static str),
    Text(&'static str),
}

/// A module inside a layer: ggml's name, the model's, the order of its rows.
type Placed = (&'static str, &'static str, Order);

/// One architecture.
pub(super) struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// The `model_type` of its description.
    pub model_type: &'static str,
    /// The path of the list of layers.
    pub layers: &'static str,
    /// Modules outside the layers, by ggml's name.
    pub outside: &'static [(&'static str, &'static str)],
    /// Modules inside a layer, by ggml's name.
    pub inside: &'static [&'static [Placed]],
    /// Tensors that follow from the configuration or go into it.
    pub nowhere: &'static [&'static str],
    /// Whether norms have biases.
    pub norm_biases: bool,
    /// What is added to the weights of norms: the file has them as they are multiplied with, some models less one.
    pub norm_shift: f32,
    /// Keys of config.json.
    pub config: &'static [&'static [(&'static str, Fact)]],
    /// Whether activations leave the range of half precision.
    pub wide: bool,
}

/// The architectures that are read.
pub(super) const ALL: &[Architecture] = &[LLAMA, QWEN2, QWEN3, GEMMA, GEMMA2, GEMMA3, GPT2, GPT_NEOX, BERT];

/// The architecture called `name`.
pub(super) fn named(name: &str) -> Option<&'static Architecture> {
    ALL.iter().find(|a| a.name == name)
}

const DECODER: &[(&str, Fact)] = &[
    ("hidden_size", Hidden),
    ("num_hidden_layers", Layers),
    ("intermediate_size", FeedForward),
    ("num_attention_heads", QueryHeads),
    ("num_key_value_heads", KeyHeads),
    ("head_dim", HeadDim),
    ("rms_norm_eps", Number("attention.layer_norm_rms_epsilon")),
    ("rope_theta", Theta),
    ("rope_scaling", Scaling),
    ("max_position_embeddings", Context),
    ("vocab_size", Vocabulary),
    ("tie_word_embeddings", Tied),
];

const SILU: &[(&str, Fact)] = &[
    ("hidden_act", Text("silu")),
    ("attention_bias", Holds("blk.0.attn_q.bias")),
    ("mlp_bias", Holds("blk.0.ffn_gate.bias")),
];

const OUTSIDE: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const PROJECTIONS: &[Placed] = &[
    ("attn_q", "self_attn.q_proj", Same),
    ("attn_k", "self_attn.k_proj", Same),
    ("attn_v", "self_attn.v_proj", Same),
    ("attn_output", "self_attn.o_proj", Same),
    ("ffn_gate", "mlp.gate_proj", Same),
    ("ffn_up", "mlp.up_proj", Same),
    ("ffn_down", "mlp.down_proj", Same),
];

const NORMS: &[Placed] = &[("attn_norm", "input_layernorm", Same), ("ffn_norm", "post_attention_layernorm", Same)];

const NORMS_AROUND: &[Placed] = &[
    ("attn_norm", "input_layernorm", Same),
    ("post_attention_norm", "post_attention_layernorm", Same),
    ("ffn_norm", "pre_feedforward_layernorm", Same),
    ("post_ffw_norm", "post_feedforward_layernorm", Same),
];

const NORMS_OF_HEADS: &[Placed] =
    &[("attn_q_norm", "self_attn.q_norm", Same), ("attn_k_norm", "self_attn.k_norm", Same)];

// llama.cpp files Mistral's models here too.
const LLAMA: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    layers: "model.layers",
    outside: OUTSIDE,
    inside: &[
        &[
            ("attn_q", "self_attn.q_proj", QueryHalves),
            ("attn_k", "self_attn.k_proj", KeyHalves),
            ("attn_v", "self_attn.v_proj", Same),
            ("attn_output", "self_attn.o_proj", Same),
            ("ffn_gate", "mlp.gate_proj", Same),
            ("ffn_up", "mlp.up_proj", Same),
            ("ffn_down", "mlp.down_proj", Same),
        ],
        NORMS,
    ],
    // Old files carry angles in every block; they follow from the base.
    nowhere: &["rope_freqs", "attn_rot_embd"],
    norm_biases: false,
    norm_shift: 0.0,
    config: &[DECODER, SILU],
    wide: false,
};

const QWEN2: Architecture = Architecture { name: "qwen2", model_type: "qwen2", inside: &[PROJECTIONS, NORMS], ..LLAMA };

const QWEN3: Architecture =
    Architecture { name: "qwen3", model_type: "qwen3", inside: &[PROJECTIONS, NORMS_OF_HEADS, NORMS], ..LLAMA };

const GEMMA: Architecture = Architecture {
    name: "gemma",
    model_type: "gemma",
    norm_shift: -1.0,
    config: &[DECODER, &[("hidden_act", Text("gelu_pytorch_tanh"))]],
    wide: true,
    ..QWEN2
};

const GEMMA2: Architecture = Architecture {
    name: "gemma2",
    model_type: "gemma2",
    inside: &[PROJECTIONS, NORMS_AROUND],
    config: &[
        DECODER,
        &[
            ("hidden_activation", Text("gelu_pytorch_tanh")),
            ("sliding_window", MaybeCount("attention.sliding_window")),
            ("attn_logit_softcapping", MaybeNumber("attn_logit_softcapping")),
            ("final_logit_softcapping", MaybeNumber("final_logit_softcapping")),
            ("query_pre_attn_scalar", PerHead(46)),
        ],
    ],
    ..GEMMA
};

const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    model_type: "gemma3_text",
    inside: &[PROJECTIONS, NORMS_OF_HEADS, NORMS_AROUND],
    config: &[
        DECODER,
        &[
            ("hidden_activation", Text("gelu_pytorch_tanh")),
            ("sliding_window", MaybeCount("attention.sliding_window")),
            ("sliding_window_pattern", MaybeCount("attention.sliding_window_pattern")),
            ("rope_local_base_freq", MaybeNumber("rope.freq_base_swa")),
            ("final_logit_softcapping", MaybeNumber("final_logit_softcapping")),
            ("query_pre_attn_scalar", PerHead(62)),
        ],
    ],
    ..GEMMA
};

const GPT2: Architecture = Architecture {
    name: "gpt2",
    model_type: "gpt2",
    layers: "model.h",
    outside: &[
        ("token_embd", "model.wte"),
        ("position_embd", "model.wpe"),
        ("output_norm", "model.ln_f"),
        ("output", "lm_head"),
    ],
    inside: &[&[
        ("attn_norm", "ln_1", Same),
        ("attn_qkv", "attn.c_attn", Same),
        ("attn_output", "attn.c_proj", Same),
        ("ffn_norm", "ln_2", Same),
        ("ffn_up", "mlp.c_fc", Same),
        ("ffn_down", "mlp.c_proj", Same),
    ]],
    nowhere: &[],
    norm_biases: true,
    config: &[&[
        ("n_embd", Hidden),
        ("n_layer", Layers),
        ("n_head", QueryHeads),
        ("n_inner", FeedForward),
        ("n_positions", Context),
        ("layer_norm_epsilon", Number("attention.layer_norm_epsilon")),
        ("activation_function", Text("gelu_new")),
        ("vocab_size", Vocabulary),
        ("tie_word_embeddings", Tied),
    ]],
    ..LLAMA
};

const GPT_NEOX: Architecture = Architecture {
    name: "gptneox",
    model_type: "gpt_neox",
    layers: "model.h",
    outside: &[
        ("token_embd", "model.embed_in"),
        ("output_norm", "model.final_layer_norm"),
        ("output", "model.embed_out"),
    ],
    inside: &[&[
        ("attn_norm", "input_layernorm", Same),
        ("attn_qkv", "attention.query_key_value", Apart),
        ("attn_output", "attention.dense", Same),
        ("ffn_norm", "post_attention_layernorm", Same),
        ("ffn_up", "mlp.dense_h_to_4h", Same),
        ("ffn_down", "mlp.dense_4h_to_h", Same),
    ]],
    nowhere: &[],
    norm_biases: true,
    config: &[&[
        ("hidden_size", Hidden),
        ("num_hidden_layers", Layers),
        ("num_attention_heads", QueryHeads),
        ("intermediate_size", FeedForward),
        ("max_position_embeddings", Context),
        ("layer_norm_eps", Number("attention.layer_norm_epsilon")),
        ("rotary_pct", Rotated),
        ("rotary_emb_base", Theta),
        ("use_parallel_residual", MaybeSwitch("use_parallel_residual")),
        ("hidden_act", Text("gelu")),
        ("vocab_size", Vocabulary),
        ("tie_word_embeddings", Tied),
    ]],
    ..LLAMA
};

const BERT: Architecture = Architecture {
    name: "bert",
    model_type: "bert",
    layers: "bert.encoder.layer",
    outside: &[
        ("token_embd", "bert.embeddings.word_embeddings"),
        ("token_types", "bert.embeddings.token_type_embeddings"),
        ("position_embd", "bert.embeddings.position_embeddings"),
        ("token_embd_norm", "bert.embeddings.LayerNorm"),
    ],
    inside: &[&[
        ("attn_q", "attention.self.query", Same),
        ("attn_k", "attention.self.key", Same),
        ("attn_v", "attention.self.value", Same),
        ("attn_output", "attention.output.dense", Same),
        ("attn_output_norm", "attention.output.LayerNorm", Same),
        ("ffn_up", "intermediate.dense", Same),
        ("ffn_down", "output.dense", Same),
        ("layer_output_norm", "output.LayerNorm", Same),
    ]],
    nowhere: &[],
    norm_biases: true,
    config: &[&[
        ("hidden_size", Hidden),
        ("num_hidden_layers", Layers),
        ("num_attention_heads", QueryHeads),
        ("intermediate_size", FeedForward),
        ("max_position_embeddings", Context),
        ("layer_norm_eps", Number("attention.layer_norm_epsilon")),
        ("hidden_act", Text("gelu")),
        ("vocab_size", Vocabulary),
    ]],
    ..LLAMA
};
