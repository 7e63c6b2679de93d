//! `mlxterp steer`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mlxterp::core::intervention::Positions;
use mlxterp::core::model::Model;
use mlxterp::core::trace::TraceOptions;
use mlxterp::interpretability::lens::top_tokens;
use mlxterp::interpretability::steering::{Action, Contrast, Normalise, Steer, SteeringVectors, steering_vectors};
use mlxterp::{Error, ErrorKind, Result};

use crate::finding::{Shown, interventions};
use crate::load::Source;
use crate::say;
use crate::trace::shown;

/// Find directions in texts, or read them from a file; steer a prompt with them.
#[derive(Args)]
pub struct Steering {
    #[command(flatten)]
    model: Source,
    /// What to steer; the next tokens are shown without and with it. Without a prompt the directions are shown.
    prompt: Option<String>,
    /// Texts that have it, one a line.
    #[arg(long, value_name = "FILE", requires = "negative")]
    positive: Option<PathBuf>,
    /// Texts that have it not, one a line.
    #[arg(long, value_name = "FILE", requires = "positive")]
    negative: Option<PathBuf>,
    /// Vectors from .safetensors, or from .gguf as repeng writes them.
    #[arg(long, value_name = "FILE", conflicts_with = "positive")]
    vectors: Option<PathBuf>,
    /// Write them: .safetensors, or .gguf for llama.cpp.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// mean_difference, pca_diff, pca_center or logistic.
    #[arg(long, default_value = "mean_difference")]
    method: String,
    /// The value within each layer.
    #[arg(long, default_value = "output")]
    site: String,
    /// The position at which texts are read: last, mean, answer or a number.
    #[arg(long, default_value = "last", allow_hyphen_values = true)]
    position: String,
    /// Which layers, such as 10,12,-1; all without it.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    layers: Option<Vec<i64>>,
    /// What is done along the direction.
    #[arg(long, value_enum, default_value_t = Done::Add)]
    action: Done,
    /// Times the vector that is added.
    #[arg(long, default_value_t = 1.0, allow_hyphen_values = true)]
    strength: f64,
    /// What the component becomes.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    value: f64,
    /// The length of the vector before it is multiplied.
    #[arg(long, value_enum, default_value_t = Length::None)]
    normalise: Length,
    /// Positions of the prompt that are steered, such as -1; all without it.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    at: Option<Vec<i64>>,
    /// How many next tokens to show.
    #[arg(long, default_value_t = 5)]
    top: usize,
    #[command(flatten)]
    shown: Shown,
}

/// What is done.
#[derive(Clone, Copy, ValueEnum)]
enum Done {
    /// Add the vector times --strength.
    Add,
    /// Take the component along it out.
    ProjectOut,
    /// Set that component to --value.
    SetComponent,
}

/// A vector's length.
#[derive(Clone, Copy, ValueEnum)]
enum Length {
    /// Its own.
    None,
    /// 1.
    Unit,
    /// That of the states it was found in.
    State,
}

impl Steering {
    /// Does it and shows it.
    pub fn run(&self) -> Result<()> {
        let model = self.model.load()?;
        let vectors = self.vectors(&model)?;
        if let Some(file) = &self.save {
            vectors.save(file)?;
        }
        self.shown.show(&vectors)?;
        let Some(prompt) = &self.prompt else { return Ok(()) };
        let next = |steering: Option<&SteeringVectors>| self.next(&model, prompt, steering);
        say(&format!("next, unsteered\n{}\nnext, steered\n{}", next(None)?, next(Some(&vectors))?))
    }

    /// Read from a file, or found in texts.
    fn vectors(&self, model: &Model) -> Result<SteeringVectors> {
        if let Some(file) = &self.vectors {
            let mut vectors = SteeringVectors::load(file)?;
            vectors.check(model)?;
            if let Some(layers) = &self.layers {
                let one = |i: &i64| model.layer(*i).and_then(|i| Ok((i, vectors.layer(i)?.clone())));
                vectors.layers = layers.iter().map(one).collect::<Result<_>>()?;
            }
            return Ok(vectors);
        }
        let (Some(positive), Some(negative)) = (&self.positive, &self.negative) else {
            let text = "steer needs directions: --positive and --negative texts, or --vectors FILE";
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        };
        let contrast = Contrast {
            layers: self.layers.clone(),
            site: self.site.clone(),
            method: self.method.parse()?,
            position: self.position.parse()?,
            ..Contrast::default()
        };
        let options = TraceOptions { interventions: interventions(self.shown.set())?, ..TraceOptions::default() };
        steering_vectors(model, lines(positive)?, lines(negative)?, &contrast, &options, &mut None)
    }

    fn next(&self, model: &Model, prompt: &str, vectors: Option<&SteeringVectors>) -> Result<String> {
        let action = match self.action {
            Done::Add => Action::Add { strength: self.strength },
            Done::ProjectOut => Action::ProjectOut,
            Done::SetComponent => Action::SetComponent { value: self.value },
        };
        let normalise = match self.normalise {
            Length::None => Normalise::None,
            Length::Unit => Normalise::Unit,
            Length::State => Normalise::State,
        };
        let how = Steer { action, normalise, layers: None, positions: self.at.clone().map(Positions::Same) };
        let mut given = interventions(self.shown.set())?;
        if let Some(vectors) = vectors {
            given.extend(vectors.interventions(&how)?);
        }
        let trace = model.trace_with(prompt, &TraceOptions { interventions: given, ..TraceOptions::default() })?;
        let last = trace.batch()?.lengths()[0] as i64 - 1;
        Ok(shown(&top_tokens(model, &trace.output()?, 0, last, self.top)?))
    }
}

/// The lines of a file that hold something.
pub fn lines(file: &std::path::Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|e| Error::new(ErrorKind::Io, format!("{}: {e}", file.display())))?;
    Ok(text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect())
}
