//! The tuned lens: an affine map for each layer, learned so that the model's head reads its states as it would the last
//! layer's (Belrose et al., 2023, "Eliciting latent predictions from transformers with the tuned lens").

mod data;
mod file;
mod npz;
mod train;

pub use self::train::{Held, TunedLensOptions, TunedTraining, train_tuned_lens, train_tuned_lens_with};
use super::logit::{self, LensOptions};
use super::{Component, LogitLens};
use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::Trace;
use crate::error::{Result, bail};
pub use crate::utils::Optimiser;
use crate::utils::Progress;

/// A map for the output of each layer: `weight state + bias`, float32. One that was never trained is the identity.
#[derive(Clone, Debug)]
pub struct TunedLens {
    /// `[feature, feature]` for each layer.
    weights: Vec<Array>,
    /// `[feature]` for each layer.
    biases: Vec<Array>,
    /// The model it was trained on, as its file says.
    pub model: Option<String>,
}

impl TunedLens {
    /// The identity at every layer: the logit lens.
    pub fn identity(layers: usize, width: usize) -> Result<Self> {
        let one = |i: usize| if i.is_multiple_of(width + 1) { 1.0 } else { 0.0 };
        let weight = Array::from_slice(&(0..width * width).map(one).collect::<Vec<f32>>(), &[width, width])?;
        let bias = Array::from_slice(&vec![0.0f32; width], &[width])?;
        Ok(Self { weights: vec![weight; layers], biases: vec![bias; layers], model: None })
    }

    /// From stacked maps: weights `[layer, feature, feature]`, biases `[layer, feature]`.
    pub fn of_arrays(weights: &Array, biases: &Array) -> Result<Self> {
        let fits = weights.ndim() == 3 && weights.dim(1) == weights.dim(2);
        if !fits || biases.shape() != &weights.shape()[..2] {
            bail!(
                Shape,
                "weights of shape {:?} and biases of shape {:?}: a lens has [layer, feature, feature] and [layer, feature]",
                weights.shape(),
                biases.shape()
            );
        }
        let parts = |a: &Array| {
            let a = tensor::cast(a, Dtype::Float32)?;
            tensor::split(&a, a.dim(0), 0)?.iter().map(|p| tensor::squeeze(p, 0)).collect::<Result<Vec<_>>>()
        };
        Ok(Self { weights: parts(weights)?, biases: parts(biases)?, model: None })
    }

    /// All maps stacked: weights `[layer, feature, feature]`, biases `[layer, feature]`.
    pub fn to_arrays(&self) -> Result<(Array, Array)> {
        Ok((tensor::stack(&self.weights, 0)?, tensor::stack(&self.biases, 0)?))
    }

    /// How many layers it has maps for.
    pub fn layers(&self) -> usize {
        self.weights.len()
    }

    /// How many features its states have.
    pub fn width(&self) -> usize {
        self.biases.first().map_or(0, Array::size)
    }

    /// A layer's map: weight and bias.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn map(&self, layer: usize) -> (&Array, &Array) {
        (&self.weights[layer], &self.biases[layer])
    }

    fn set(&mut self, layer: usize, weight: Array, bias: Array) {
        self.weights[layer] = weight;
        self.biases[layer] = bias;
    }

    /// States `[place, feature]` of a layer's output as that of the last layer.
    pub fn translate(&self, layer: usize, states: &Array) -> Result<Array> {
        apply(&self.weights[layer], &self.biases[layer], states)
    }

    /// Refuses a lens of another model.
    pub fn check(&self, model: &Model) -> Result<()> {
        let (layers, width) = (model.num_layers(), model.hidden_size());
        if self.layers() != layers || (width > 0 && self.width() != width) {
            bail!(
                InvalidArgument,
                "the lens has {} layers of width {}, the model {layers} of width {width}: it was trained on {}",
                self.layers(),
                self.width(),
                self.model.as_deref().unwrap_or("another model")
            );
        }
        Ok(())
    }
}

/// `states weight^T + bias`, float32.
fn apply(weight: &Array, bias: &Array, states: &Array) -> Result<Array> {
    tensor::addmm(bias, &tensor::cast(states, Dtype::Float32)?, &tensor::swap_axes(weight, 0, 1)?)
}

/// [`logit_lens`](super::logit_lens) through a tuned lens. It reads the output of layers; the embedding has no map and no row.
pub fn tuned_lens(
    model: &Model,
    prompts: impl Into<Prompts>,
    lens: &TunedLens,
    options: &LensOptions,
) -> Result<LogitLens> {
    tuned_lens_of(&model.trace(prompts)?, lens, options, &mut None)
}

/// [`tuned_lens`] of a trace, whose interventions it sees.
pub fn tuned_lens_of(
    trace: &Trace,
    lens: &TunedLens,
    options: &LensOptions,
    progress: &mut Progress<'_>,
) -> Result<LogitLens> {
    lens.check(&trace.model())?;
    if options.component != Component::ResidPost {
        bail!(InvalidArgument, "a tuned lens maps the output of layers (resid_post), not {}", options.component);
    }
    let options = LensOptions { embedding: false, ..options.clone() };
    let map = |layer: i64, states: Array| lens.translate(layer as usize, &states);
    logit::read(trace, &options, "tuned lens", map, progress)
}
