//! Path patching: what one part tells another directly (Wang et al. 2022, "Interpretability in the wild"; Goldowsky-Dill
//! et al. 2023, "Localizing model behavior with path patching").
//!
//! Of every sender: a run of the clean prompts in which the sender alone is as in the corrupted run, and every other
//! part on the way to the receivers is held at its clean value. What the receivers then take in is put into a second clean
//! run, in which everything after them is computed anew, and that run is measured. For receivers that are the logits the
//! first run is measured itself. All senders of a layer are rows of one batch.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cells::{Cell, numbered};
use super::measure::{Measure, Score};
use super::pairs::{Pairs, counted};
use super::place::{Row, axis, of_prompts, patched, share_below};
use super::receivers::{Hearing, Receiver};
use super::scores::{Averages, PairScore, gaps, unpatched};
use crate::core::arch::tape::Slot;
use crate::core::intervention::Intervention;
use crate::core::model::{Model, Prompts, SiteId};
use crate::core::tensor::Array;
use crate::core::trace::{Trace, TraceOptions};
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid, Progress, tell};

/// What sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Senders {
    /// Attention heads, one by one: what each reads, before the output projection.
    #[default]
    Heads,
    /// MLPs, layer by layer.
    Mlp,
}

/// What MLPs between sender and receiver do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Between {
    /// They are held at their clean values, like all heads: the direct path alone (Goldowsky-Dill et al. 2023).
    #[default]
    Frozen,
    /// They are computed anew, so that a sender may speak through them; heads are held (Wang et al. 2022).
    Recomputed,
}

/// Options of [`path_patching`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathPatchingOptions {
    /// What sends.
    pub senders: Senders,
    /// Layers of the senders (negative from the last); nothing: all.
    pub layers: Option<Vec<i64>>,
    /// Heads that send (negative from the last); nothing: all.
    pub heads: Option<Vec<i64>>,
    /// Positions at which senders are patched (negative from each prompt's end); nothing: all.
    pub positions: Option<Vec<i64>>,
    /// What receives: the logits, or inputs of heads and MLPs, all together.
    pub receivers: Vec<Receiver>,
    /// What MLPs on the way do.
    pub mlps: Between,
    /// Tokens that run at once at most: bounds memory.
    pub tokens_at_once: usize,
    /// What all runs are under.
    #[serde(skip)]
    pub interventions: Vec<(String, Intervention)>,
}

impl Default for PathPatchingOptions {
    fn default() -> Self {
        Self {
            senders: Senders::default(),
            layers: None,
            heads: None,
            positions: None,
            receivers: vec![Receiver::logits()],
            mlps: Between::default(),
            tokens_at_once: 4096,
            interventions: Vec::new(),
        }
    }
}

/// What each sender does to a measure through the receivers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathPatch {
    /// What sent.
    pub senders: Senders,
    /// What received, in words.
    pub receivers: Vec<String>,
    /// What MLPs on the way did.
    pub mlps: Between,
    /// What was measured.
    pub measure: String,
    /// The measure of the clean run, averaged over pairs.
    pub clean: f32,
    /// The measure of the corrupted run, averaged over pairs.
    pub corrupt: f32,
    /// By pair.
    pub pairs: Vec<PairScore>,
    /// The measure with a sender's path patched, averaged over pairs; axes "layer" and, for heads, "head".
    pub raw: Grid,
    /// (raw - corrupt) / (clean - corrupt): 1 where the path does nothing, 0 where it carries all.
    pub normalised: Grid,
    /// `raw` of each pair, axis "pair" first; nothing when there is one.
    pub raw_by_pair: Option<Grid>,
    /// `normalised` of each pair by its own clean and corrupted run; nothing when there is one.
    pub normalised_by_pair: Option<Grid>,
    /// Runs of a prompt that were made; a sender that the receivers cannot hear needs none.
    pub runs: usize,
}

/// Patches the paths from each sender to the receivers. Prompts go in pairs of one length, by row.
///
/// Errors: pairs of different lengths; senders, receivers or positions that are not there; a measure that is not a number,
/// or the same for both runs; whatever a metric that is a function raises.
pub fn path_patching(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    measure: impl Into<Measure>,
    options: &PathPatchingOptions,
) -> Result<PathPatch> {
    path_patching_told(model, clean, corrupt, measure, options, &mut None)
}

/// [`path_patching`], telling how many senders are done; who is told may end it.
pub fn path_patching_told(
    model: &Model,
    clean: impl Into<Prompts>,
    corrupt: impl Into<Prompts>,
    measure: impl Into<Measure>,
    options: &PathPatchingOptions,
    progress: &mut Progress<'_>,
) -> Result<PathPatch> {
    let measure = measure.into();
    let pairs = Pairs::new(model, clean.into(), corrupt.into(), None)?;
    let hearing = Hearing::new(model, &options.receivers)?;
    let trace_options = TraceOptions { interventions: options.interventions.clone(), ..TraceOptions::default() };
    let start = || model.trace_batch(pairs.clean.clone(), &trace_options);
    let (clean, corrupt) = (start()?, model.trace_batch(pairs.corrupt.clone(), &trace_options)?);
    let parts = Parts::read(model, options, &clean, &corrupt, &hearing)?;
    let (axes, cells) = parts.senders(model, options, &pairs)?;
    let score = Score::new(&measure, model, &clean)?;
    let prompts: Vec<usize> = (0..pairs.clean.len()).collect();
    let (clean_scores, corrupt_scores) = (score.of(&clean.fork()?, &prompts)?, score.of(&corrupt.fork()?, &prompts)?);
    Array::eval_all(parts.arrays().chain([&clean_scores, &corrupt_scores]))?;
    let (clean_scores, corrupt_scores) = (unpatched(&clean_scores, "clean")?, unpatched(&corrupt_scores, "corrupted")?);
    gaps(&clean_scores, &corrupt_scores, &measure)?;
    drop((clean, corrupt));

    let paths = Paths { model, options, parts: &parts, hearing: &hearing, score: &score, prompts: prompts.len() };
    let n = prompts.len();
    let (mut scores, mut runs) = (vec![f32::NAN; cells.len() * n], 0);
    // Two clean runs, computed as far as the senders and the receivers.
    let (below, above) = (start()?, start()?);
    let width = pairs.clean.width();
    let at_once = (options.tokens_at_once / (width * n).max(1)).max(1);
    let (mut done, total) = (0, cells.len() as u64);
    for (numbers, same) in by_layer(&cells) {
        if !hearing.hears(model, parts.sender(same[0].first), &parts.barred(model, options)) {
            numbers.iter().for_each(|i| scores[i * n..(i + 1) * n].copy_from_slice(&clean_scores));
        } else {
            for (numbers, some) in numbers.chunks(at_once).zip(same.chunks(at_once)) {
                let rows: Vec<Row<'_>> = some
                    .iter()
                    .zip(numbers)
                    .flat_map(|(cell, number)| (0..n).map(move |prompt| Row { cell, number: *number, prompt }))
                    .collect();
                let found = paths.run(&below, &above, &rows)?;
                if let Some(i) = found.iter().position(|v| v.is_nan()) {
                    let cell = rows[i].cell;
                    let head = cell.heads.as_ref().map_or(String::new(), |h| format!(", head {}", h[0]));
                    bail!(
                        InvalidArgument,
                        "the metric is not a number (NaN) with the path from layer {}{head} patched (pair {})",
                        cell.first,
                        rows[i].prompt
                    );
                }
                rows.iter().zip(found).for_each(|(row, v)| scores[row.number * n + row.prompt] = v);
                runs += rows.len();
            }
        }
        done += numbers.len() as u64;
        tell(progress, done, total)?;
    }
    let scored: Vec<PairScore> =
        clean_scores.iter().zip(&corrupt_scores).map(|(a, b)| PairScore { clean: *a, corrupt: *b }).collect();
    let all = Averages::of(axes, &scored, &scores)?;
    Ok(PathPatch {
        senders: options.senders,
        receivers: options.receivers.iter().map(ToString::to_string).collect(),
        mlps: options.mlps,
        measure: measure.to_string(),
        clean: all.whole.clean,
        corrupt: all.whole.corrupt,
        pairs: scored,
        raw: all.raw,
        normalised: all.normalised,
        raw_by_pair: all.raw_by_pair,
        normalised_by_pair: all.normalised_by_pair,
        runs,
    })
}

/// Cells of one layer, with their numbers.
fn by_layer(cells: &[Cell]) -> Vec<(Vec<usize>, &[Cell])> {
    let mut from = 0;
    let mut out = Vec::new();
    for same in cells.chunk_by(|a, b| a.first == b.first) {
        out.push(((from..from + same.len()).collect(), same));
        from += same.len();
    }
    out.sort_by_key(|(_, same)| same[0].first);
    out
}

/// What heads read and MLPs give in both runs, by layer.
struct Parts {
    heads: Vec<Option<(SiteId, Array)>>,
    mlps: Vec<Option<(SiteId, Array)>>,
    /// The senders' corrupted values.
    corrupt: Vec<Option<Array>>,
    senders: Senders,
}

impl Parts {
    fn read(
        model: &Model,
        options: &PathPatchingOptions,
        clean: &Trace,
        corrupt: &Trace,
        hearing: &Hearing,
    ) -> Result<Self> {
        let top = hearing.last_layer().map_or(model.num_layers(), |last| last + 1).min(model.num_layers());
        let part = |name: &str, needed: bool| {
            let one = |layer: usize| match model.sites().resolve(&format!("layers.{layer}.{name}")) {
                Ok(site) if needed && layer < top => Ok(Some((site, clean.read(site)?))),
                _ => Ok(None),
            };
            (0..model.num_layers()).map(one).collect::<Result<Vec<_>>>()
        };
        let heads = part("attn.z", true)?;
        let mlps = part("mlp", options.mlps == Between::Frozen || options.senders == Senders::Mlp)?;
        let sending = if options.senders == Senders::Heads { &heads } else { &mlps };
        let values = sending.iter().map(|p| p.as_ref().map(|(site, _)| corrupt.read(*site)).transpose());
        let corrupt = values.collect::<Result<Vec<_>>>()?;
        Ok(Self { heads, mlps, corrupt, senders: options.senders })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        let kept = self.heads.iter().chain(&self.mlps).flatten().map(|(_, a)| a);
        kept.chain(self.corrupt.iter().flatten())
    }

    fn sending(&self) -> &[Option<(SiteId, Array)>] {
        if self.senders == Senders::Heads { &self.heads } else { &self.mlps }
    }

    /// The site of a layer's senders.
    fn sender(&self, layer: usize) -> Option<SiteId> {
        self.sending()[layer].as_ref().map(|(site, _)| *site)
    }

    /// What no path passes through.
    fn barred(&self, model: &Model, options: &PathPatchingOptions) -> Vec<Slot> {
        let mlps = self.mlps.iter().flatten().filter(|_| options.mlps == Between::Frozen);
        self.heads.iter().flatten().chain(mlps).map(|(site, _)| model.inner().slot(*site)).collect()
    }

    /// Axes and cells: one a sender.
    fn senders(&self, model: &Model, options: &PathPatchingOptions, pairs: &Pairs) -> Result<(Vec<Axis>, Vec<Cell>)> {
        let n = model.num_layers();
        let name = if self.senders == Senders::Heads { "attn.z" } else { "mlp" };
        let has = |layer: &usize| model.sites().resolve(&format!("layers.{layer}.{name}")).map(|_| *layer);
        let layers = match &options.layers {
            Some(list) => numbered(list, n, "layer")?.iter().map(has).collect::<Result<Vec<_>>>()?,
            None => (0..n).filter(|layer| has(layer).is_ok()).collect(),
        };
        let Some(first) = layers.first() else { return has(&0).map(|_| (Vec::new(), Vec::new())) };
        let mut heads = vec![None];
        let mut axes = vec![Axis::new("layer", layers.iter().map(usize::to_string))];
        if self.senders == Senders::Heads {
            let count = |layer: usize| {
                let (site, value) = self.heads[layer].as_ref()?;
                axis(model.inner().layout(*site), "head").map(|at| value.dim(at as i32))
            };
            // Layers above the receivers were not read: they have as many heads as the others.
            let known = layers.iter().find_map(|l| count(*l)).unwrap_or(model.num_heads());
            if let Some(layer) = layers.iter().find(|l| count(**l).is_some_and(|n| n != known)) {
                bail!(
                    InvalidArgument,
                    "layers {first} and {layer} have different numbers of heads: choose `layers` that have as many"
                );
            }
            let chosen = match &options.heads {
                Some(list) => numbered(list, known, "head")?,
                None => (0..known).collect(),
            };
            axes.push(Axis::new("head", chosen.iter().map(usize::to_string)));
            heads = chosen.into_iter().map(|h| Some(vec![h])).collect();
        } else if options.heads.is_some() {
            bail!(InvalidArgument, "MLPs have no heads: leave `heads` out, or let senders be 'heads'");
        }
        let own = |prompt: usize, length: usize| match &options.positions {
            None => Ok((0..length).collect()),
            Some(list) => list.iter().map(|p| counted(*p, length, &format!("prompt {prompt}"))).collect(),
        };
        let positions = pairs.clean.lengths().iter().enumerate().map(|(i, n)| own(i, *n));
        let positions = positions.collect::<Result<Vec<Vec<usize>>>>()?;
        let cell = |layer: usize, heads: &Option<Vec<usize>>| Cell {
            first: layer,
            last: layer,
            heads: heads.clone(),
            neurons: None,
            positions: positions.clone(),
        };
        let cells = layers.iter().flat_map(|l| heads.iter().map(move |h| (*l, h))).map(|(l, h)| cell(l, h)).collect();
        Ok((axes, cells))
    }
}

/// Everything a batch of senders needs.
struct Paths<'a> {
    model: &'a Model,
    options: &'a PathPatchingOptions,
    parts: &'a Parts,
    hearing: &'a Hearing,
    score: &'a Score,
    prompts: usize,
}

impl Paths<'_> {
    /// The scores of senders of one layer.
    fn run(&self, below: &Trace, above: &Trace, rows: &[Row<'_>]) -> Result<Vec<f32>> {
        let layer = rows[0].cell.first;
        let each: Vec<usize> = rows.iter().map(|r| r.prompt).collect();
        let times = rows.len() / self.prompts;
        share_below(below, layer)?;
        let frozen = below.fork_rows(times)?;
        for at in layer..self.model.num_layers() {
            let mlp = self.options.mlps == Between::Frozen || (self.options.senders == Senders::Mlp && at == layer);
            let held = [self.parts.heads[at].as_ref(), self.parts.mlps[at].as_ref().filter(|_| mlp)];
            for (site, clean) in held.into_iter().flatten() {
                let mut value = of_prompts(clean, rows)?;
                if at == layer && self.parts.sender(layer) == Some(*site) {
                    let layout = self.model.inner().layout(*site);
                    let new = self.parts.corrupt[layer].as_ref();
                    let new = new.map(|new| patched(&value, layout, rows, layer, 0, new)).transpose()?.flatten();
                    value = new.unwrap_or(value);
                }
                frozen.write(*site, &value)?;
            }
        }
        if self.hearing.is_logits() {
            return self.score.of(&frozen, &each)?.to_vec::<f32>();
        }
        let first = self.hearing.first_layer().unwrap_or(0);
        share_below(above, first)?;
        let open = above.fork_rows(times)?;
        self.hearing.pass(self.model, &frozen, &open)?;
        self.score.of(&open, &each)?.to_vec::<f32>()
    }
}

impl fmt::Display for PathPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mlps = match self.mlps {
            Between::Frozen => "MLPs between held",
            Between::Recomputed => "MLPs between computed anew",
        };
        writeln!(f, "paths to {}, {mlps}; {}", self.receivers.join(", "), self.measure)?;
        writeln!(f, "clean {:.4}, corrupted {:.4}; 1 = clean, 0 = corrupted", self.clean, self.corrupt)?;
        self.normalised.fmt(f)
    }
}
