//! A checkpoint and a description put together: module tree, sites and their names, parameters.

mod capability;
mod checkpoint;
mod experts;
mod expression;
mod flow;
mod info;
mod inputs;
mod load;
mod opaque;
mod own;
mod parameters;
mod prompts;
mod rope;
mod sites;
mod uses;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub use capability::Capability;
pub(crate) use experts::{ExpertSite, Target};
pub(crate) use flow::Stream;
pub use info::{ExpertsInfo, Info, ModuleInfo};
pub use load::{LoadOptions, LoadProgress, OnProgress};
pub(crate) use opaque::Functions;
pub use parameters::Parameters;
pub use prompts::Prompts;
pub use sites::{SiteId, Sites};
pub(crate) use uses::Uses;

use crate::core::arch::tape::{Layout, Op, Producer, Program, Slot};
use crate::core::tensor::Array;
use crate::core::text::Tokenizer;
use crate::core::trace::{self, Batch, PlannedSite, Straight, Trace, TraceOptions};
use crate::error::{Result, err};

/// A loaded model. Cloning shares it; it may be used from any thread.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

/// What all clones and traces of a model share.
pub(crate) struct Inner {
    pub name: String,
    pub config: Value,
    pub program: Program,
    pub uses: Uses,
    pub straight: Straight,
    pub parameters: Parameters,
    pub sites: Sites,
    pub tokenizer: Option<Tokenizer>,
    sites_of_slots: HashMap<Slot, SiteId>,
    capabilities: OnceLock<Vec<Capability>>,
    /// How many token ids the embedding has rows for.
    vocabulary: usize,
    /// Inputs whose whole numbers choose rows of a table, and how many rows it has.
    indexing: Vec<(Slot, usize)>,
    /// How many positions a learned embedding of positions has rows for.
    positions: Option<usize>,
}

/// See the fields of the same names of [`Inner`].
struct Reach {
    vocabulary: usize,
    indexing: Vec<(Slot, usize)>,
    positions: Option<usize>,
}

/// How far token ids and positions may go: rows of the smallest embedding of each. MLX does not check indices.
fn reach(program: &Program, parameters: &Parameters) -> Result<Reach> {
    let (mut indexing, mut positions) = (Vec::<(Slot, usize)>::new(), None);
    for instr in &program.instrs {
        let Op::Embedding(w) = &instr.op else { continue };
        let rows = parameters.tensor(w.weight)?.dim(0);
        let least = |known: Option<usize>, rows: usize| Some(known.map_or(rows, |k| k.min(rows)));
        match program.origin(instr.inputs[0]) {
            Producer::Input => {
                let slot = program.source(instr.inputs[0]);
                match indexing.iter_mut().find(|(s, _)| *s == slot) {
                    Some((_, known)) => *known = rows.min(*known),
                    None => indexing.push((slot, rows)),
                }
            }
            Producer::Instr(at) => {
                if let Op::Positions { add } = program.instrs[at as usize].op {
                    positions = least(positions, rows.saturating_sub(usize::try_from(add).unwrap_or(0)));
                }
            }
            Producer::Alias(_) => {}
        }
    }
    let vocabulary = indexing.first().map_or(0, |(_, rows)| *rows);
    Ok(Reach { vocabulary: if program.takes_tokens() { vocabulary } else { 0 }, indexing, positions })
}

impl Inner {
    fn new(
        name: String,
        config: Value,
        program: Program,
        parameters: Parameters,
        tokenizer: Option<Tokenizer>,
    ) -> Result<Self> {
        let mut sites_of_slots = HashMap::new();
        for (site, (_, hook)) in program.hooks.iter().enumerate() {
            sites_of_slots.entry(hook.slot).or_insert(site);
        }
        let Reach { vocabulary, indexing, positions } = reach(&program, &parameters)?;
        Ok(Self {
            name,
            config,
            vocabulary,
            indexing,
            positions,
            uses: Uses::of(&program),
            straight: Straight::of(&program),
            sites: Sites::new(&program)?,
            program,
            parameters,
            tokenizer,
            sites_of_slots,
            capabilities: OnceLock::new(),
        })
    }

    pub fn slot(&self, site: SiteId) -> Slot {
        self.program.hooks[site].1.slot
    }

    pub fn layout(&self, site: SiteId) -> Layout {
        self.program.hooks[site].1.layout
    }

    /// Which axis of a site's value with that many axes counts positions.
    pub fn position_axis(&self, site: SiteId, ndim: usize) -> Option<usize> {
        match self.layout(site) {
            Layout::Hidden if ndim != 3 => None,
            Layout::Hidden | Layout::PerHead | Layout::Tokens | Layout::Experts => Some(1),
            Layout::Heads | Layout::Scores => Some(2),
            Layout::Other => None,
        }
    }

    /// Whether the first axis of a site's value counts the rows of the batch.
    pub fn has_rows(&self, site: SiteId, ndim: usize) -> bool {
        ndim > 0 && self.layout(site) != Layout::Other
    }

    /// What people call a slot.
    pub fn slot_name(&self, slot: Slot) -> String {
        match self.sites_of_slots.get(&slot) {
            Some(site) => self.sites.standard_name(*site).unwrap_or_else(|| self.program.hooks[*site].0.clone()),
            None => format!("slot {slot}"),
        }
    }

    fn config_number(&self, keys: &[&str]) -> Option<usize> {
        keys.iter().find_map(|k| self.config.get(k)?.as_u64()).map(|n| n as usize)
    }
}

impl Model {
    /// Loads a local directory in mlx-lm's layout, a `.gguf` file, or a Hugging Face id.
    pub fn load(source: &str) -> Result<Self> {
        Self::load_with(source, &LoadOptions::default(), None)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Model(inner)
    }

    /// The sites and their names.
    pub fn sites(&self) -> &Sites {
        &self.0.sites
    }

    /// What may be relied on at each site, by site number: proven from the tape, nothing is run.
    pub fn capabilities(&self) -> &[Capability] {
        self.0.capabilities.get_or_init(|| capability::manifest(&self.0.program, &self.0.sites))
    }

    /// `config.json`, normalised to one spelling.
    pub fn config(&self) -> &Value {
        &self.0.config
    }

    /// The tape the description was compiled to.
    pub fn program(&self) -> &Program {
        &self.0.program
    }

    /// The tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// The tokenizer; an error when the checkpoint has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.0.tokenizer.as_ref().ok_or_else(|| {
            err!(
                NotFound,
                "'{}' has no tokenizer: give token ids, or put its tokenizer.json beside config.json",
                self.0.name
            )
        })
    }

    /// The ids of special tokens: the tokenizer's, or those that the config of a model without one names.
    pub fn special_ids(&self) -> BTreeSet<u32> {
        if let Some(tokenizer) = &self.0.tokenizer {
            return tokenizer.special_ids();
        }
        let named = ["bos_token_id", "eos_token_id", "pad_token_id"].iter().filter_map(|k| self.0.config.get(k));
        let ids = named.flat_map(|v| v.as_array().cloned().unwrap_or_else(|| vec![v.clone()]));
        ids.filter_map(|v| u32::try_from(v.as_u64()?).ok()).collect()
    }

    /// The name that the model was loaded by, without the folders it lies in: what files written here say of it.
    pub fn short_name(&self) -> &str {
        let name = self.0.name.trim_end_matches(['/', '\\']);
        let local = std::path::Path::new(name);
        match local.is_absolute() || local.exists() {
            true => local.file_name().and_then(|n| n.to_str()).unwrap_or(name),
            false => name,
        }
    }

    /// A layer by its number, negative from the last.
    pub fn layer(&self, number: i64) -> Result<usize> {
        let n = self.num_layers() as i64;
        match if number < 0 { number + n } else { number } {
            layer if (0..n).contains(&layer) => Ok(layer as usize),
            _ => Err(err!(InvalidArgument, "there is no layer {number}: the model has {n}")),
        }
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.0.program.n_layers
    }

    /// Number of query heads, 0 when the config does not say.
    pub fn num_heads(&self) -> usize {
        self.0.config_number(&["num_attention_heads", "n_head", "num_heads"]).unwrap_or(0)
    }

    /// Width of the residual stream, 0 when the config does not say.
    pub fn hidden_size(&self) -> usize {
        self.0.config_number(&["hidden_size", "n_embd", "d_model"]).unwrap_or(0)
    }

    /// How many token ids there are: rows of the embedding.
    pub fn vocab_size(&self) -> usize {
        self.0.vocabulary
    }

    /// The longest prompt: as many positions as were learned, else what the config says. Dynamic rope scaling stretches what the model was trained on by its factor.
    pub fn context_length(&self) -> Option<usize> {
        if self.0.positions.is_some() {
            return self.0.positions;
        }
        let trained = self.0.config_number(&["max_position_embeddings", "n_positions", "n_ctx"])?;
        let scaling = ["rope_scaling", "rope_parameters"].iter().find_map(|k| self.0.config.get(k)?.as_object());
        let word = |k: &str| scaling.and_then(|s| s.get(k));
        let dynamic = word("type").or_else(|| word("rope_type")).and_then(Value::as_str) == Some("dynamic");
        let factor = word("factor").and_then(Value::as_f64).filter(|f| dynamic && *f > 1.0).unwrap_or(1.0);
        Some((trained as f64 * factor) as usize)
    }

    /// Tokens of prompts, checked and padded; or the arrays that the model takes, checked.
    pub fn batch(&self, prompts: impl Into<Prompts>) -> Result<Batch> {
        let prompts = prompts.into();
        if !self.0.program.takes_tokens() || matches!(prompts, Prompts::Arrays(_)) {
            return self.array_batch(prompts);
        }
        let rows = match prompts {
            Prompts::Arrays(_) => Vec::new(),
            Prompts::Tokens(rows) => rows,
            Prompts::Text(texts) => {
                let tokenizer = self.tokenizer()?;
                let encode =
                    |(i, t): (usize, &String)| tokenizer.encode_prompt(t).map_err(|e| e.context(format!("prompt {i}")));
                texts.iter().enumerate().map(encode).collect::<Result<_>>()?
            }
        };
        let pad = self.0.tokenizer.as_ref().and_then(Tokenizer::pad_id).unwrap_or(0);
        Batch::new(rows, self.vocab_size(), self.context_length(), pad)
    }

    /// Starts a trace over one prompt or several. Nothing is computed.
    pub fn trace(&self, prompts: impl Into<Prompts>) -> Result<Trace> {
        self.trace_with(prompts, &TraceOptions::default())
    }

    /// Starts a trace with interventions and options.
    pub fn trace_with(&self, prompts: impl Into<Prompts>, options: &TraceOptions) -> Result<Trace> {
        self.trace_batch(self.batch(prompts)?, options)
    }

    /// Starts a trace over tokens that [`Model::batch`] checked.
    pub fn trace_batch(&self, batch: Batch, options: &TraceOptions) -> Result<Trace> {
        Trace::start(self, batch, options)
    }

    /// The logits `[batch, position, vocabulary]` of a plain forward, lazily.
    pub fn forward(&self, prompts: impl Into<Prompts>) -> Result<Array> {
        self.forward_batch(&self.batch(prompts)?)
    }

    /// [`Model::forward`] over tokens that [`Model::batch`] checked.
    pub fn forward_batch(&self, batch: &Batch) -> Result<Array> {
        trace::forward(&self.0, batch)
    }

    /// Shape and dtype of every site for these prompts, without computing anything.
    pub fn plan(&self, prompts: impl Into<Prompts>) -> Result<Vec<PlannedSite>> {
        self.plan_batch(self.batch(prompts)?)
    }

    /// [`Model::plan`] for a batch that [`Model::batch`] checked.
    pub fn plan_batch(&self, batch: Batch) -> Result<Vec<PlannedSite>> {
        trace::plan(&self.0, batch)
    }
}
