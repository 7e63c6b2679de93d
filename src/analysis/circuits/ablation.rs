//! What a cut edge carries instead of what its sender adds.

use serde::{Deserialize, Serialize};

use super::stream::Messages;
use crate::core::tensor::{self, Array, Dtype};
use crate::core::trace::Batch;
use crate::error::Result;

/// What stands in for a sender at the end of a cut edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ablation {
    /// What it adds in the corrupt run, position by position.
    #[default]
    Resample,
    /// What it adds on average over all tokens of the corrupt prompts.
    Mean,
    /// Nothing.
    Zero,
}

impl Ablation {
    /// What every sender adds instead. `reference` are the messages of the corrupt prompts, for shapes with zeros.
    pub(crate) fn of(self, reference: &Messages, prompts: &Batch) -> Result<Messages> {
        match self {
            Ablation::Resample => Ok(reference.clone()),
            Ablation::Zero => reference.each(tensor::zeros_like),
            Ablation::Mean => {
                let marks: Vec<f32> = prompts
                    .lengths()
                    .iter()
                    .flat_map(|n| (0..prompts.width()).map(move |p| if p < *n { 1.0 } else { 0.0 }))
                    .collect();
                let tokens: usize = prompts.lengths().iter().sum();
                let share = Array::scalar(1.0 / tokens as f64, Dtype::Float32)?;
                reference.each(|x| {
                    // Rows first, positions and features last, perhaps heads between.
                    let mut shape = vec![1; x.ndim()];
                    (shape[0], shape[x.ndim() - 2]) = (prompts.len(), prompts.width());
                    let own = tensor::mul(x, &Array::from_slice(&marks, &shape)?)?;
                    let sum = tensor::sum(&tensor::sum(&own, -2, true)?, 0, true)?;
                    tensor::broadcast_to(&tensor::mul(&sum, &share)?, x.shape())
                })
            }
        }
    }
}
