//! The compiled form of a model: a flat tape of instructions over numbered slots.
//!
//! A tape depends on the description, the configuration and the checkpoint's tensor names only, never on batch,
//! length or dtype: it is made once at load and shared by every trace. It is pure dataflow (each slot has one
//! producer), so the executor may compute any slot on demand, forget it and compute it again.

use std::collections::BTreeMap;

pub use super::choice::Choice;

/// A numbered value of the run.
pub type Slot = u32;
/// An index into [`Program::tensors`].
pub type TensorId = u32;

/// The tensors of one module that multiplies by a weight. `scales` says that the weight is quantised.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The module's path as the checkpoint's quantisation table spells it (`model.layers.0.self_attn.q_proj`).
    pub path: String,
    /// `path.weight`.
    pub weight: TensorId,
    /// `path.bias`, when the checkpoint has it.
    pub bias: Option<TensorId>,
    /// `path.scales`, when the weight is quantised.
    pub scales: Option<TensorId>,
    /// `path.biases` of an affine quantisation.
    pub biases: Option<TensorId>,
}

/// An operand that is either a slot or a number known at load time. A number never changes a tensor's dtype.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operand {
    /// A value of the run.
    Slot(Slot),
    /// A weak scalar.
    Number(f64),
}

/// Elementwise functions of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Silu,
    Gelu,
    GeluTanh,
    GeluQuick,
    Relu,
    Relu2,
    Sigmoid,
    Tanh,
    Softplus,
    Exp,
    Log,
    Sqrt,
    Square,
    Abs,
    Floor,
    Round,
}

/// Elementwise functions of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Minimum,
    Maximum,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Mod,
    FloorDiv,
}

/// Reductions along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduce {
    Sum,
    Mean,
    Max,
    Std,
    Norm,
}

/// One subscript of an `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// `start:stop:step`, numpy's meaning.
    Slice {
        /// First element.
        start: Option<i64>,
        /// One past the last element.
        stop: Option<i64>,
        /// Step, positive.
        step: i64,
    },
    /// One element; the axis disappears.
    At(i64),
    /// `...`
    Ellipsis,
    /// `none`: a new axis.
    NewAxis,
}

/// Which keys a query may see; `window` and `chunk` as in trace.md and mlx-lm (key visible if `q < k + window`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Multiplies the scores.
    pub scale: f64,
    /// Sliding window in tokens.
    pub window: Option<usize>,
    /// Chunked attention: keys of the query's own chunk only.
    pub chunk: Option<usize>,
    /// `tanh(s / c) * c` on the scores.
    pub softcap: Option<f64>,
    /// Keys after the query are hidden.
    pub causal: bool,
    /// Compute in float32 whatever the inputs are.
    pub f32: bool,
    /// Per-head sink logits, a slot.
    pub sinks: Option<Slot>,
    /// Additive bias on the scores, a slot.
    pub bias: Option<Slot>,
    /// Further boolean mask, a slot.
    pub mask: Option<Slot>,
}

/// Rotary embedding, all of mlx-lm's `initialize_rope` by `scaling`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// How many leading dimensions turn.
    pub dims: usize,
    /// Base of the frequencies (theta).
    pub base: f64,
    /// `rope_scaling` as config.json has it.
    pub scaling: Option<serde_json::Value>,
    /// Pairs are neighbours (MLX: traditional) rather than halves.
    pub interleaved: bool,
    /// `max_position_embeddings`.
    pub max_pos: Option<f64>,
}

/// Recurrences over time; `trace/recurrent` says what each computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Recurrence {
    /// Mamba-2: inputs x, dt, A, B, C, D.
    Ssd {
        /// Groups of heads that share B and C.
        groups: usize,
    },
    /// Mamba-1: inputs x, dt, A, B, C, D.
    SelectiveScan,
    /// Gated delta rule: inputs q, k, v, logarithms of the gates, beta.
    GatedDelta,
    /// Gated linear attention: inputs q, k, v.
    Gla {
        /// Logarithm of each head's decay.
        decay: Vec<f64>,
        /// Multiplies q.
        scale: f64,
    },
    /// `h = a h + x`: inputs x, a.
    LinearScan,
    /// RWKV-7: inputs r, logarithms of the decays, k, v, a, b.
    Wkv7,
}

/// What an instruction does with its inputs.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Op {
    /// `x W^T (+ b)`, quantised when the weights are.
    Linear(Weights),
    /// Rows of the weight by token id.
    Embedding(Weights),
    RmsNorm {
        weight: Option<TensorId>,
        eps: f64,
        offset: f64,
    },
    LayerNorm {
        weight: Option<TensorId>,
        bias: Option<TensorId>,
        eps: f64,
        offset: f64,
    },
    Rope(Rope),
    /// A tensor of the checkpoint as a value.
    Param(TensorId),
    /// `[B,L,n*d] -> [B,n,L,d]`
    Heads {
        n: usize,
    },
    /// `[B,L,n*d] -> [B,L,n,d]`
    PerHead {
        n: usize,
    },
    /// Swap axes 1 and 2.
    Flip,
    /// `[B,n,L,d] -> [B,L,n*d]`
    Merge,
    /// Parts along an axis: equal parts when `sizes` is empty, `n` of them (the number of outputs).
    Split {
        sizes: Vec<usize>,
        axis: i64,
    },
    Concat {
        axis: i64,
    },
    Stack {
        axis: i64,
    },
    /// Key and value caches: identity unless the run has a cache. One output per input.
    Cache,
    /// Fused attention: inputs q, k, v; output z `[B,n,L,d]`.
    Attend(Attention),
    /// Inputs q, k; output the scores as the softmax sees them (scaled, soft-capped, biased, masked).
    AttendScores(Attention),
    /// Input scores; output the pattern (softmax; sinks take their share and are dropped).
    AttendPattern(Attention),
    /// Inputs pattern, v; output z: the explicit way to the same z as [`Op::Attend`].
    AttendMix(Attention),
    /// Per-head results of the projection after attention: input z `[B,n,L,d]`; output `[B,n,L,D]`, `z_h W_O,h`.
    HeadResult(Weights),
    /// Input per-head results; output their sum plus the projection's bias.
    HeadSum(Weights),
    Unary(Unary),
    /// Both operands are given here; `inputs` repeats the slots among them.
    Binary(Binary, Operand, Operand),
    /// Depthwise causal convolution over time.
    Conv {
        weight: TensorId,
        bias: Option<TensorId>,
    },
    /// Outputs the values and the state after the last token. What it goes on from is what instruction `memory`, an
    /// [`Op::Remember`] of that state, remembers.
    Recur {
        kind: Recurrence,
        memory: u32,
    },
    /// Input a state; the same, remembered for the next run.
    Remember,
    /// The token before each one.
    TokenShift,
    Reduce {
        op: Reduce,
        axis: i64,
        keep: bool,
    },
    Softmax {
        axis: i64,
    },
    /// `tanh(x / c) * c`
    Softcap(f64),
    Clip {
        low: Option<f64>,
        high: Option<f64>,
    },
    /// Inputs condition, a, b.
    Where(Operand, Operand),
    Matmul,
    ToF32,
    /// Inputs x, y: x in y's dtype.
    Like,
    Index(Vec<Index>),
    Unflatten {
        axis: i64,
        shape: Vec<i64>,
    },
    Flatten {
        start: i64,
        end: i64,
    },
    Transpose {
        axes: Vec<usize>,
    },
    Swap {
        a: i64,
        b: i64,
    },
    Repeat {
        n: usize,
        axis: i64,
    },
    Expand {
        axis: i64,
    },
    Squeeze {
        axis: i64,
    },
    /// Input ids; output positions `[L]` plus `add`.
    Positions {
        add: i64,
    },
    /// Inputs x and chosen experts `[B,L,k]`; `x W_e^T (+ b_e)` for each: `[B,L,k,1,out]`. `bounded` says that the
    /// choice cannot name an expert that is not there.
    Switch {
        weights: Weights,
        bounded: bool,
    },
    /// Choosing among experts, keys or rows.
    Choice(Choice),
    /// A function of the host, given at load: any number of values in and out.
    Opaque,
    /// A matrix for each head: `x W_h^T`, or `x W_h` when not transposed.
    MultiLinear {
        weights: Weights,
        transpose: bool,
    },
    /// What a few families need.
    Special(Special),
}

/// Operations that a few families need.
#[derive(Clone, Debug, PartialEq)]
pub enum Special {
    /// `[B,1,..]` to `[B,n,..]`.
    BroadcastHeads {
        /// How many heads share it.
        n: usize,
    },
    /// Positions along the last axis but one plus `start`, float32: `[L]`, or `[B,1..,L]` where rows begin at different places.
    PositionAxis {
        /// What is added.
        start: i64,
    },
    /// Another shape; one length may be -1.
    Reshape {
        /// The lengths.
        shape: Vec<i64>,
    },
    /// The whole repeated along each axis.
    Tile {
        /// How often, axis by axis.
        reps: Vec<usize>,
    },
    /// Attention with linear biases (Press et al. 2022): slope of the head times the key's position, `[1 or B,heads,1,keys]`.
    Alibi {
        /// One slope a head.
        slopes: Vec<f64>,
    },
    /// Expanded integral of the exponential linear unit, learned (Huang 2025): inputs x, alpha_p, alpha_n, beta, eps.
    XIelu,
    /// Whether a position is a row's first, `[B,L,1]`.
    IsStart,
    /// A convolution of two taps over time, a pair of weights a head: inputs `[B,n,L,d]` and weights of n pairs.
    HeadConv2,
    /// Each token hashed with the g - 1 before it: `sum ids[t-k] vocabulary^k mod modulus`.
    NGramIds {
        /// Tokens hashed together.
        g: usize,
        /// Base of the hash.
        vocabulary: i64,
        /// Rows of the table.
        modulus: i64,
    },
}

impl Op {
    /// Whether it remembers something from one run to the next.
    pub fn remembers(&self) -> bool {
        matches!(
            self,
            Op::Cache
                | Op::Conv { .. }
                | Op::Remember
                | Op::TokenShift
                | Op::Special(Special::HeadConv2 | Special::NGramIds { .. })
        )
    }

    /// The weight it multiplies by, which may be packed.
    pub fn weights(&self) -> Option<&Weights> {
        match self {
            Op::Linear(w) | Op::Embedding(w) | Op::HeadResult(w) | Op::HeadSum(w) => Some(w),
            Op::Switch { weights, .. } | Op::MultiLinear { weights, .. } => Some(weights),
            _ => None,
        }
    }

    /// The tensors of the checkpoint that it uses.
    pub fn tensors(&self) -> Vec<TensorId> {
        if let Some(w) = self.weights() {
            return w.all();
        }
        match self {
            Op::RmsNorm { weight, .. } => weight.iter().copied().collect(),
            Op::LayerNorm { weight, bias, .. } => weight.iter().chain(bias).copied().collect(),
            Op::Conv { weight, bias } => std::iter::once(weight).chain(bias).copied().collect(),
            Op::Param(t) => vec![*t],
            _ => Vec::new(),
        }
    }

    /// Which of its inputs gradients of its outputs reach.
    pub fn gradients_reach(&self, inputs: &[Slot]) -> Vec<Slot> {
        match self {
            // Whole numbers in, or steps that are flat almost everywhere.
            Op::Embedding(_) | Op::Positions { .. } | Op::Unary(Unary::Floor | Unary::Round) => Vec::new(),
            Op::Binary(Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::FloorDiv, ..) => {
                Vec::new()
            }
            // A condition chooses; it has no slope.
            Op::Where(..) => inputs.iter().skip(1).copied().collect(),
            Op::Like | Op::Switch { .. } => inputs.iter().take(1).copied().collect(),
            Op::Choice(choice) => choice.gradients_reach(inputs),
            Op::Special(
                Special::PositionAxis { .. } | Special::Alibi { .. } | Special::IsStart | Special::NGramIds { .. },
            ) => Vec::new(),
            // Whether MLX can differentiate it is the function's own affair: nothing is promised.
            Op::Opaque => Vec::new(),
            _ => inputs.to_vec(),
        }
    }
}

impl Weights {
    /// Every tensor of it.
    pub fn all(&self) -> Vec<TensorId> {
        [Some(self.weight), self.bias, self.scales, self.biases].into_iter().flatten().collect()
    }
}

/// One step of the tape.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    /// What it does.
    pub op: Op,
    /// What it reads, in order.
    pub inputs: Vec<Slot>,
    /// What it makes, in order.
    pub outputs: Vec<Slot>,
    /// The module it belongs to.
    pub path: String,
    /// Line of the description.
    pub line: u32,
}

/// Where a slot's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    /// What the run is given: the token ids, or the array of that number.
    Input,
    /// An instruction, by index.
    Instr(u32),
    /// Another slot, under a name of its own so that writing to one does not touch the other.
    Alias(Slot),
}

/// A slot whose value has a second, explicit way of being made, taken once one of `inner` is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detour {
    /// The slot both ways make.
    pub slot: Slot,
    /// The explicit way, by instruction index.
    pub instr: u32,
    /// The inner values that only the explicit way passes through.
    pub inner: Vec<Slot>,
    /// Reading an inner value before the slot was made also takes the explicit way (attention); otherwise only a write does.
    pub on_read: bool,
}

/// How the axes of a site are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Layout {
    /// `[batch, position, feature]`
    Hidden,
    /// `[batch, head, position, feature]`
    Heads,
    /// `[batch, position, head, feature]`
    PerHead,
    /// `[batch, head, query, key]`
    Scores,
    /// `[batch, position, chosen expert, (1,) feature]`
    Experts,
    /// `[batch, position]`
    Tokens,
    /// Anything else: no row, position or head can be selected by name.
    Other,
}

impl Layout {
    /// What each axis means, those after the last one named left out; empty where axes have no meaning of their own.
    pub fn axes(self) -> &'static [&'static str] {
        match self {
            Layout::Hidden => &["row", "position", "feature"],
            Layout::Heads => &["row", "head", "position", "feature"],
            Layout::PerHead => &["row", "position", "head", "feature"],
            Layout::Scores => &["row", "head", "position", "key"],
            Layout::Experts => &["row", "position", "expert"],
            Layout::Tokens => &["row", "position"],
            Layout::Other => &[],
        }
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its slot.
    pub slot: Slot,
    /// How its axes are to be read.
    pub layout: Layout,
    /// Made only when somebody asks (scores, pattern, per-head results).
    pub on_touch: bool,
}

/// A module whose matrices are chosen token by token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// The module's path (`model.layers.0.mlp.switch_mlp`).
    pub path: String,
    /// The experts that each token chose, `[B,L,k]`.
    pub chosen: Slot,
    /// How many there are to choose from.
    pub count: usize,
}

/// A node of the module tree, for printing and for discovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Full path (`model.layers.0.self_attn`).
    pub path: String,
    /// `Linear`, `RmsNorm`, `Embedding`, `Rope`, or the description's block name (`Attention`).
    pub kind: String,
    /// Tensors that belong to it directly.
    pub tensors: Vec<TensorId>,
}

/// A model's computation, compiled.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The description's name (`llama`).
    pub arch: String,
    /// The instructions, in an order in which each one's inputs are made before it.
    pub instrs: Vec<Instr>,
    /// Each slot's producer. The first ones are the inputs.
    pub slots: Vec<Producer>,
    /// Names of the inputs as `Main` calls them, by slot: `ids` alone, or arrays.
    pub inputs: Vec<String>,
    /// Names of the checkpoint's tensors the tape uses, after the weight rules.
    pub tensors: Vec<String>,
    /// Named values in execution order: full path -> hook.
    pub hooks: Vec<(String, Hook)>,
    /// Explicit ways.
    pub detours: Vec<Detour>,
    /// Mixtures of experts, in execution order.
    pub experts: Vec<Experts>,
    /// Slots whose whole numbers choose among so many: a written value must stay below.
    pub bounds: BTreeMap<Slot, usize>,
    /// The module tree in tree order.
    pub modules: Vec<Module>,
    /// Roles of the description (`layer` -> `model.layers.*`, `attn` -> `self_attn`, …), root prefix applied to the absolute ones.
    pub roles: BTreeMap<String, String>,
    /// Number of layers (elements of the list that the role `layer` names).
    pub n_layers: usize,
    /// Slot of the logits.
    pub output: Slot,
}

impl Program {
    /// Whether tokens see those that follow them, as in an encoder.
    pub fn looks_ahead(&self) -> bool {
        self.instrs.iter().any(|i| matches!(&i.op, Op::Attend(a) if !a.causal))
    }

    /// Where a slot's value comes from once its other names are looked through.
    pub fn origin(&self, slot: Slot) -> Producer {
        self.slots[self.source(slot) as usize]
    }

    /// The slot in which a value was made, its other names looked through.
    pub fn source(&self, mut slot: Slot) -> Slot {
        while let Producer::Alias(of) = self.slots[slot as usize] {
            slot = of;
        }
        slot
    }

    /// Whether an input may be changed: token ids, and numbers that choose rows of a table, are checked when a run begins.
    pub fn is_free(&self, input: Slot) -> bool {
        let chooses = |i: &Instr| matches!(i.op, Op::Embedding(_)) && self.source(i.inputs[0]) == input;
        !self.takes_tokens() && !self.instrs.iter().any(chooses)
    }

    /// Whether a run is given token ids rather than arrays.
    pub fn takes_tokens(&self) -> bool {
        self.inputs.first().is_none_or(|name| name == "ids")
    }
}
