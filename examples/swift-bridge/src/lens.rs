//! What the app asks of a model.

use mlxterp::core::arch::tape::Index;
use mlxterp::core::intervention::Intervention;
use mlxterp::core::model::Model;
use mlxterp::core::tensor::{self, Array};
use mlxterp::core::trace::{Trace, subscript};
use mlxterp::interpretability::lens::{Cell, LensOptions, logit_lens, top_tokens};
use mlxterp::{Error, ErrorKind};

type Result<T> = std::result::Result<T, Failure>;

/// A model.
pub struct Lens {
    model: Model,
}

impl Lens {
    /// Loads a model: a directory, a `.gguf` file, or a Hugging Face id.
    pub fn open(path: String) -> Result<Self> {
        Ok(Self { model: Model::load(&path)? })
    }

    pub fn layer_count(&self) -> usize {
        self.model.num_layers()
    }

    /// The likeliest next token if the model stopped after layer 0, 1, and so on.
    pub fn by_layer(&self, prompt: String) -> Result<Vec<Guess>> {
        let seen = logit_lens(&self.model, &*prompt, &LensOptions::default())?;
        let layers = seen.layers.iter().zip(seen.prompts.iter().flat_map(|reading| &reading.cells));
        // Before the first layer stands the embedding.
        let last = layers.filter(|(layer, _)| **layer >= 0).filter_map(|(_, cells)| cells.last()?.top.first());
        Ok(last.map(Guess::of).collect())
    }

    /// What sets the residual stream of `toward` apart from that of `away` after a layer, at a token of each that is
    /// counted from its end if negative.
    pub fn direction(&self, away: String, toward: String, layer: usize, position: i64) -> Result<Direction> {
        let site = format!("layers.{layer}.output");
        let state = |prompt: String| {
            let states = self.model.trace(&*prompt)?.get(&site)?;
            subscript(&states, &[Index::At(0), Index::At(position)])
        };
        let vector = tensor::sub(&state(toward)?, &state(away)?)?;
        Ok(Direction { site, position, vector })
    }

    /// The `count` likeliest next tokens, and what becomes of them with `strength` times the direction added at its site.
    pub fn compare(&self, prompt: String, direction: &Direction, strength: f64, count: usize) -> Result<Comparison> {
        let trace = self.model.trace(&*prompt)?;
        let push = Intervention::add_vector(direction.vector.clone(), strength).positions([direction.position]);
        // What comes before the change is computed once.
        let untouched = self.guesses(&trace, count)?;
        let fork = trace.fork()?;
        fork.intervene(&direction.site, push)?;
        let steered = self.guesses(&fork, count)?;
        let change = fork.receipts()?.iter().map(|r| r.change_norm).sum();
        Ok(Comparison { untouched, steered, change })
    }

    fn guesses(&self, trace: &Trace, count: usize) -> Result<Vec<Guess>> {
        Ok(top_tokens(&self.model, &trace.output()?, 0, -1, count)?.iter().map(Guess::of).collect())
    }
}

/// A direction of the residual stream, and where it was found.
pub struct Direction {
    site: String,
    position: i64,
    vector: Array,
}

impl Direction {
    pub fn site(&self) -> String {
        self.site.clone()
    }
}

/// The next tokens without and with a change.
pub struct Comparison {
    untouched: Vec<Guess>,
    steered: Vec<Guess>,
    change: f64,
}

impl Comparison {
    pub fn untouched(&self) -> Vec<Guess> {
        self.untouched.clone()
    }

    pub fn steered(&self) -> Vec<Guess> {
        self.steered.clone()
    }

    /// The norm of what was added, as the receipt of the trace has it.
    pub fn change(&self) -> f64 {
        self.change
    }
}

/// A token and its probability.
#[derive(Clone)]
pub struct Guess {
    text: String,
    probability: f32,
}

impl Guess {
    fn of(cell: &Cell) -> Self {
        Self { text: cell.text.clone(), probability: cell.probability }
    }

    pub fn text(&self) -> String {
        self.text.clone()
    }

    pub fn probability(&self) -> f32 {
        self.probability
    }
}

/// What Swift catches: the kind as a word to decide by, and a message for people.
pub struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    pub fn kind(&self) -> String {
        format!("{:?}", self.kind)
    }

    pub fn message(&self) -> String {
        self.message.clone()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}
