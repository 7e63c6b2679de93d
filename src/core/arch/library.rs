//! The descriptions that come with the library: texts, of which only those asked for are read.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use super::description::Description;
use super::parser;
use crate::error::{Result, bail, nearest};

/// A description's text, and what was read from it once somebody asked.
struct Shipped {
    name: &'static str,
    text: &'static str,
    read: OnceLock<Result<Arc<Description>>>,
}

/// One line per file of `library/`, sorted. A test compares the list with the directory.
macro_rules! shipped {
    ($($name:literal)*) => {
        static ALL: [Shipped; [$($name),*].len()] = [$(Shipped {
            name: $name,
            text: include_str!(concat!("library/", $name, ".arch")),
            read: OnceLock::new(),
        }),*];
    };
}

shipped! {
    "Klear"
    "afm7"
    "afmoe"
    "apertus"
    "attention_only"
    "baichuan_m1"
    "bailing_hybrid"
    "bailing_moe"
    "bailing_moe_linear"
    "bert"
    "bitnet"
    "bloom"
    "cohere"
    "cohere2"
    "dbrx"
    "deepseek"
    "deepseek_v2"
    "deepseek_v3"
    "deepseek_v32"
    "distilbert"
    "dots1"
    "ernie4_5"
    "ernie4_5_moe"
    "exaone"
    "exaone4"
    "exaone_moe"
    "experts"
    "falcon"
    "falcon_h1"
    "gear"
    "gemma"
    "gemma2"
    "gemma3"
    "gemma3_text"
    "gemma3n"
    "gemma3n_text"
    "gemma4"
    "gemma4_text"
    "glm"
    "glm4"
    "glm4_moe"
    "glm_moe_dsa"
    "gpt2"
    "gpt_bigcode"
    "gpt_neox"
    "gpt_oss"
    "gptj"
    "granite"
    "granitemoe"
    "granitemoehybrid"
    "helium"
    "hf_olmo"
    "hunyuan"
    "hunyuan_v1_dense"
    "internlm2"
    "iquestloopcoder"
    "jamba"
    "kimi_linear"
    "kimi_vl"
    "laguna"
    "lfm2"
    "lfm2_moe"
    "lille-130m"
    "llama"
    "llama4"
    "llama4_text"
    "longcat_flash"
    "longcat_flash_ngram"
    "mamba"
    "mamba2"
    "mellum"
    "mimo_v2_flash"
    "minicpm"
    "minicpm3"
    "minimax"
    "ministral3"
    "mistral4"
    "mixtral"
    "modernbert"
    "multimodal"
    "muse_glimmer"
    "muse_glimmer_text"
    "nanbeige"
    "nanochat"
    "nemotron"
    "nemotron-nas"
    "nemotron_h"
    "olmo"
    "olmo2"
    "olmo3"
    "olmo_hybrid"
    "olmoe"
    "openelm"
    "opt"
    "phi"
    "phi3"
    "phi3small"
    "phimoe"
    "phixtral"
    "plamo"
    "plamo2"
    "plamo3"
    "qwen"
    "qwen3_5"
    "qwen3_5_text"
    "qwen3_next"
    "qwen3_vl_moe"
    "qwen3_vl_moe_text"
    "qwen_moe"
    "recurrent_gemma"
    "roberta"
    "rwkv7"
    "smollm3"
    "spark2_5"
    "stablelm"
    "starcoder2"
    "step3p5"
    "talkie"
    "youtu"
}

/// Where each model type's description stands in the list. Only the first lines are read for it.
///
/// A type that begins with `_` is nobody's: such a description is there to be built upon.
static BY_TYPE: LazyLock<BTreeMap<String, usize>> = LazyLock::new(|| {
    let types = |at: usize| parser::model_types(ALL[at].text, ALL[at].name).unwrap_or_default();
    let all = (0..ALL.len()).flat_map(|at| types(at).into_iter().map(move |t| (t, at)));
    all.filter(|(t, _)| !t.starts_with('_')).collect()
});

impl Shipped {
    fn description(&self) -> Result<Arc<Description>> {
        self.read.get_or_init(|| Description::parse(self.text, self.name).map(Arc::new)).clone()
    }
}

/// The text of a description of the library, as a start for one's own.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|d| d.name == name).map(|d| d.text)
}

/// The description of that name.
pub fn named(name: &str) -> Result<Arc<Description>> {
    match ALL.iter().find(|d| d.name == name) {
        Some(shipped) => shipped.description(),
        None => {
            let near = nearest(name, names(), 3).iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ");
            let near = if near.is_empty() { String::new() } else { format!(" (nearest: {near})") };
            bail!(NotFound, "no description '{name}' is shipped{near}; 'mlxterp arch' lists them")
        }
    }
}

/// Names of the descriptions, sorted.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|d| d.name).collect()
}

/// The model types that have a description, sorted.
pub fn supported() -> Vec<&'static str> {
    BY_TYPE.keys().map(String::as_str).collect()
}

/// The description of a `model_type`.
pub fn for_model_type(model_type: &str) -> Result<Arc<Description>> {
    match BY_TYPE.get(model_type) {
        Some(at) => ALL[*at].description(),
        None => {
            let hint = match nearest(model_type, BY_TYPE.keys().map(String::as_str), 1).first() {
                Some(n) => format!(" (did you mean '{n}'?)"),
                None => String::new(),
            };
            bail!(Unsupported, "the model_type '{model_type}' has no description{hint}")
        }
    }
}
