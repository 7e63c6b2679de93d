//! Numbers of many next-token distributions at once.

use crate::core::model::Model;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail};

/// How many numbers of logits are held at a time (256 MB in float32, a few such arrays).
pub(super) const AT_ONCE: usize = 1 << 26;

/// What was read off logits `[layer, place, vocabulary]`, row-major.
pub(super) struct Readout {
    /// `[layer, place, k]`, likeliest first.
    pub top: Vec<u32>,
    /// Their probabilities.
    pub top_probability: Vec<f32>,
    /// `[layer, place]`, in nats.
    pub entropy: Vec<f32>,
    /// `[layer, place]`: KL(final ‖ here), in nats.
    pub kl: Vec<f32>,
    /// `[layer, place, target]`
    pub probability: Vec<f32>,
    /// `[layer, place, target]`: 1 for the likeliest.
    pub rank: Vec<u32>,
}

/// Log probabilities, float32. Tokens that are ruled out altogether stay finite, so that 0 times their logarithm is 0.
pub(super) fn log_probabilities(logits: &Array) -> Result<Array> {
    let x = tensor::cast(logits, Dtype::Float32)?;
    let log = tensor::sub(&x, &tensor::logsumexp(&x, -1, true)?)?;
    tensor::maximum(&log, &tensor::weak(-1e30, &log)?)
}

/// KL(p ‖ q) along the last axis, in nats, from log probabilities.
pub(super) fn kl(log_p: &Array, log_q: &Array) -> Result<Array> {
    tensor::sum(&tensor::mul(&tensor::exp(log_p)?, &tensor::sub(log_p, log_q)?)?, -1, false)
}

/// Reads them: `last` are the final logits `[place, vocabulary]`, `targets` as many ids for each place.
pub(super) fn read(logits: &Array, last: &Array, targets: &[Vec<u32>], k: usize) -> Result<Readout> {
    let here = log_probabilities(logits)?;
    let (layers, places, vocabulary) = (here.dim(0), here.dim(1), here.dim(2));
    let entropy = tensor::neg(&tensor::sum(&tensor::mul(&tensor::exp(&here)?, &here)?, -1, false)?)?;
    let kl = kl(&log_probabilities(last)?, &here)?;
    let top = likeliest(&here, k.min(vocabulary))?;
    let top_probability = tensor::exp(&tensor::take_along(&here, &top, -1)?)?;
    let mut wanted = Vec::new();
    for t in 0..targets.first().map_or(0, Vec::len) {
        let ids: Vec<u32> = targets.iter().map(|of_place| of_place[t]).collect();
        let ids = tensor::broadcast_to(&Array::from_slice(&ids, &[1, places, 1])?, &[layers as i32, places as i32, 1])?;
        let own = tensor::take_along(&here, &ids, -1)?;
        let above = tensor::sum(&tensor::cast(&tensor::greater(&here, &own)?, Dtype::Uint32)?, -1, true)?;
        wanted.push((tensor::exp(&own)?, tensor::add(&above, &Array::from_slice(&[1u32], &[1])?)?));
    }
    let join = |parts: Vec<&Array>| if parts.is_empty() { Ok(None) } else { tensor::concatenate(parts, -1).map(Some) };
    let probability = join(wanted.iter().map(|(p, _)| p).collect())?;
    let rank = join(wanted.iter().map(|(_, r)| r).collect())?;
    Array::eval_all([&top, &top_probability, &entropy, &kl].into_iter().chain(&probability).chain(&rank))?;
    Ok(Readout {
        top: top.to_vec()?,
        top_probability: top_probability.to_vec()?,
        entropy: entropy.to_vec()?,
        kl: kl.to_vec()?,
        probability: probability.map_or(Ok(Vec::new()), |p| p.to_vec())?,
        rank: rank.map_or(Ok(Vec::new()), |r| r.to_vec())?,
    })
}

/// The ids of the `k` largest along the last axis, largest first.
pub(super) fn likeliest(scores: &Array, k: usize) -> Result<Array> {
    if k == 1 {
        return tensor::argmax(scores, -1, true);
    }
    let down = tensor::neg(scores)?;
    let parts = tensor::split_at(&tensor::argpartition(&down, k - 1, -1)?, &[k as i32], -1)?;
    let order = tensor::argsort(&tensor::take_along(&down, &parts[0], -1)?, -1)?;
    tensor::take_along(&parts[0], &order, -1)
}

impl Readout {
    /// Refuses numbers that are none, and says where they were.
    pub fn check(&self, places: usize, name: impl Fn(usize, usize) -> String) -> Result<()> {
        let broken = |numbers: &[f32]| numbers.iter().position(|v| !v.is_finite());
        if let Some(at) = broken(&self.entropy) {
            let place = name(at / places, at % places);
            bail!(
                InvalidArgument,
                "{place}: the logits are not numbers (NaN or infinity): check the interventions, and the lens"
            );
        }
        match broken(&self.kl) {
            Some(_) => bail!(
                InvalidArgument,
                "the model's own logits are not numbers (NaN or infinity): check the interventions"
            ),
            None => Ok(()),
        }
    }
}

/// The text of a token, its number where there is no tokenizer.
pub(super) fn text(model: &Model, id: u32) -> Result<String> {
    match model.tokenizer() {
        Ok(tokenizer) => tokenizer.token_to_str(id),
        Err(_) => Ok(id.to_string()),
    }
}
