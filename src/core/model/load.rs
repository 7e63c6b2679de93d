//! From a source to a model: find it, read its config, compile the description, load the tensors.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::checkpoint::{Order, Pieces};
use super::{Functions, Inner, Model, Parameters};
use crate::core::arch::{self, Description, TensorInfo, library};
use crate::core::hub::{self, HubOptions, ModelFiles};
use crate::core::tensor::{self, Dtype};
use crate::core::text::Tokenizer;
use crate::core::trace::Opaque;
use crate::error::{ErrorKind, Result, bail, err};

/// How a model is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The dtype to compute in. By default float32 on the CPU backend (its half-precision and packed products are ten
    /// times slower), the checkpoint's own elsewhere.
    pub dtype: Option<Dtype>,
    /// Whether quantised weights stay packed. By default only on Metal: on the CPU backend packed products are slow, and
    /// on CUDA MLX 0.32.2 got some of them wrong (docs/performance.md).
    pub keep_quantised: Option<bool>,
    /// Name of a shipped architecture description, or the text of a new one. By default the config's `model_type` decides.
    pub description: Option<String>,
    /// Functions for the description's opaque modules, by path, pattern or name.
    pub opaque: Vec<(String, Opaque)>,
    /// Where and how to look for a Hugging Face id.
    pub hub: HubOptions,
}

/// What a model is made of.
pub(super) struct Parts {
    pub pieces: Pieces,
    pub config: Value,
    pub tokenizer: Option<Tokenizer>,
    /// What was asked for; by default the description's name.
    pub name: Option<String>,
}

/// How far a load has come, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// `download` or `load`.
    pub stage: &'static str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, 0 when unknown.
    pub total: u64,
}

/// Told how far a load has come; false cancels it.
pub type OnProgress<'a> = &'a mut dyn FnMut(LoadProgress) -> bool;

impl Model {
    /// Loads with options; `progress` is told how far it has come and may cancel.
    pub fn load_with(source: &str, options: &LoadOptions, mut progress: Option<OnProgress<'_>>) -> Result<Self> {
        if source.is_empty() {
            bail!(InvalidArgument, "the model's path or id is empty");
        }
        let mut tell = |p: hub::Progress| match &mut progress {
            Some(f) => f(LoadProgress { stage: "download", done: p.done, total: p.total }),
            None => true,
        };
        let files = hub::resolve(source, &options.hub, Some(&mut tell))?;
        let packed = options.keep_quantised.unwrap_or(tensor::packed_products_are_sound_and_fast());
        let (pieces, config, tokenizer) = match &files {
            ModelFiles::Directory(dir) => {
                let pieces = Pieces::of_directory(dir)?;
                (pieces, read_config(dir)?, optional(Tokenizer::from_dir(dir))?)
            }
            ModelFiles::Gguf(path) => Pieces::of_gguf(path, packed)?,
        };
        let parts = Parts { pieces, config, tokenizer, name: Some(source.to_owned()) };
        Self::assemble(parts, options, progress)
    }

    /// Description, config and tensors put together.
    pub(super) fn assemble(parts: Parts, options: &LoadOptions, mut progress: Option<OnProgress<'_>>) -> Result<Self> {
        let Parts { pieces, config, tokenizer, name } = parts;
        let packed = options.keep_quantised.unwrap_or(tensor::packed_products_are_sound_and_fast());
        let config = arch::normalise(config)?;
        let infos = pieces.infos();
        let description = describe(&config, options.description.as_deref(), &infos)?;
        // Arrays of the user's stay what they are; files are read for what the backend is good at.
        let as_given = options.dtype.is_none() && pieces.are_arrays();
        let files = if tensor::uses_cpu() { Dtype::Float32 } else { pieces.own_dtype() };
        let dtype = options.dtype.unwrap_or(if as_given { pieces.own_dtype() } else { files });
        if !dtype.is_float() {
            bail!(InvalidArgument, "a model cannot compute in {dtype}: use float32, bfloat16 or float16");
        }
        let plan = arch::plan_weights(&description, &config, &infos)?;
        let shapes = plan.iter().map(|(name, e)| Ok((name.clone(), e.shape(&infos)?))).collect::<Result<_>>()?;
        let program = arch::elaborate(&description, &arch::with_layout(&config, &infos), &shapes)?;
        let order = Order {
            program: &program,
            plan: &plan,
            shapes: &shapes,
            config: &config,
            dtype,
            as_given,
            keep_packed: packed,
        };
        let loaded = pieces.load(&order, &mut progress)?;
        let opaque = Functions(&options.opaque).bind(&program)?;
        let parameters = Parameters::new(&program, loaded.tensors, loaded.quantization, dtype)?.with_opaque(opaque);
        let name = name.unwrap_or_else(|| program.arch.clone());
        Ok(Model(std::sync::Arc::new(Inner::new(name, config, program, parameters, tokenizer)?)))
    }
}

/// A checkpoint without a tokenizer can still be traced by token ids.
pub(super) fn optional(tokenizer: Result<Tokenizer>) -> Result<Option<Tokenizer>> {
    match tokenizer {
        Ok(t) => Ok(Some(t)),
        Err(e) if e.kind() == crate::error::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn read_config(dir: &Path) -> Result<Value> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            err!(NotFound, "{} has no config.json: is it a model directory in mlx-lm's layout?", dir.display())
        }
        _ => err!(Io, "{}: {e}", path.display()),
    })?;
    let config: Value = serde_json::from_str(&text).map_err(|e| err!(Corrupt, "{}: {e}", path.display()))?;
    if !config.is_object() {
        bail!(Corrupt, "{}: the top level must be an object", path.display());
    }
    Ok(config)
}

/// The description asked for, else the one for the config's `model_type`.
fn describe(
    config: &Value,
    asked: Option<&str>,
    tensors: &BTreeMap<String, TensorInfo>,
) -> Result<std::sync::Arc<Description>> {
    match asked {
        Some(text) if text.contains(char::is_whitespace) => {
            Description::parse(text, "the given description").map(Into::into)
        }
        Some(name) => library::named(name).map_err(|e| err!(NotFound, "{e}, or give a description's text")),
        None => match config.get("model_type").and_then(Value::as_str) {
            Some(kind) => library::for_model_type(kind).map_err(|e| {
                if e.kind() != ErrorKind::Unsupported {
                    return e;
                }
                err!(Unsupported, "{e}; {}", arch::suggest(config, tensors).in_words(kind))
            }),
            None => bail!(
                Config,
                "config.json has no model_type, which decides the architecture: add it, or name a description with \
                 arch=; {}",
                arch::suggest(config, tensors).in_words("mine")
            ),
        },
    }
}
