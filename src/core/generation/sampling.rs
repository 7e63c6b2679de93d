//! From logits to a token: temperature, top-k, top-p, min-p, in this order, as transformers does it.

use crate::error::{Result, bail};

/// How a token is drawn. The default is greedy: the most likely token, the lower id where two are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 is greedy, and the filters below then change nothing.
    pub temperature: f64,
    /// Only the `k` most likely tokens (Fan et al. 2018, arXiv:1805.04833); those equal to the last of them stay too.
    pub top_k: Option<usize>,
    /// Only the most likely tokens that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751).
    pub top_p: f64,
    /// Only tokens at least this many times as likely as the most likely one (Nguyen et al. 2024, arXiv:2407.01082).
    pub min_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: None, top_p: 1.0, min_p: 0.0 }
    }
}

/// Tokens that may be drawn: id and weight, in the order of their ids. The most likely one weighs 1.
type Weights = Vec<(u32, f64)>;

impl Sampling {
    /// Plain sampling at a temperature.
    pub fn at(temperature: f64) -> Self {
        Self { temperature, ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let Self { temperature, top_k, top_p, min_p } = *self;
        if !temperature.is_finite() || temperature < 0.0 {
            bail!(InvalidArgument, "temperature is {temperature}: it must be 0 (greedy) or more");
        }
        if top_k == Some(0) {
            bail!(InvalidArgument, "top_k is 0: keep at least one token, or leave top_k out");
        }
        if top_p.is_nan() || top_p <= 0.0 || top_p > 1.0 {
            bail!(InvalidArgument, "top_p is {top_p}: it must be above 0 and at most 1 (1 keeps every token)");
        }
        if !(0.0..=1.0).contains(&min_p) {
            bail!(InvalidArgument, "min_p is {min_p}: it must lie between 0 (keeps every token) and 1");
        }
        Ok(())
    }

    /// The probability with which each token is drawn, given its logits.
    pub fn probabilities(&self, logits: &[f32]) -> Result<Vec<f64>> {
        self.check()?;
        let mut out = vec![0.0; logits.len()];
        if self.temperature == 0.0 {
            out[best(logits)? as usize] = 1.0;
            return Ok(out);
        }
        let weights = self.weights(logits)?;
        let total: f64 = weights.iter().map(|(_, w)| w).sum();
        weights.into_iter().for_each(|(id, w)| out[id as usize] = w / total);
        Ok(out)
    }

    /// One token, given a number between 0 and 1.
    pub(super) fn draw(&self, logits: &[f32], uniform: f64) -> Result<u32> {
        let most_likely = best(logits)?;
        if self.temperature == 0.0 {
            return Ok(most_likely);
        }
        let weights = self.weights(logits)?;
        let total: f64 = weights.iter().map(|(_, w)| w).sum();
        let mut left = uniform * total;
        for (id, w) in &weights {
            left -= w;
            if left < 0.0 {
                return Ok(*id);
            }
        }
        // Rounding may leave a little over at the very end.
        Ok(weights.iter().rev().find(|(_, w)| *w > 0.0).map_or(most_likely, |(id, _)| *id))
    }

    fn weights(&self, logits: &[f32]) -> Result<Weights> {
        let top = logits[best(logits)? as usize];
        let weight = |l: f32| ((f64::from(l) - f64::from(top)) / self.temperature).exp();
        let least = match self.top_k.filter(|k| *k < logits.len()) {
            Some(k) => *logits.to_vec().select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1,
            None => f32::NEG_INFINITY,
        };
        let mut kept: Weights =
            logits.iter().enumerate().filter(|(_, l)| **l >= least).map(|(id, l)| (id as u32, weight(*l))).collect();
        if self.top_p < 1.0 {
            self.cut_to_top_p(&mut kept);
        }
        // After the filters before it the most likely token is still there, and weighs 1.
        kept.retain(|(_, w)| *w >= self.min_p);
        Ok(kept)
    }

    /// Keeps the likeliest tokens until they reach `top_p` of the whole. Sorts no more of them than that takes.
    fn cut_to_top_p(&self, kept: &mut Weights) {
        let wanted = self.top_p * kept.iter().map(|(_, w)| w).sum::<f64>();
        let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let mut sorted = 256.min(kept.len());
        loop {
            if sorted < kept.len() {
                kept.select_nth_unstable_by(sorted, order);
            }
            kept[..sorted].sort_unstable_by(order);
            let mut mass = 0.0;
            let enough = kept[..sorted].iter().position(|(_, w)| {
                mass += w;
                mass >= wanted
            });
            if let Some(last) = enough {
                kept.truncate(last + 1);
                break;
            }
            if sorted == kept.len() {
                break;
            }
            sorted = (sorted * 8).min(kept.len());
        }
        kept.sort_unstable_by_key(|(id, _)| *id);
    }
}

/// The most likely token, the lower id where two are equal.
fn best(logits: &[f32]) -> Result<u32> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, l) in logits.iter().enumerate() {
        if l.is_nan() || *l == f32::INFINITY {
            bail!(InvalidArgument, "the logit of token {id} is {l}: nothing can be drawn from such logits");
        }
        if *l > best.1 {
            best = (id as u32, *l);
        }
    }
    if best.1 == f32::NEG_INFINITY {
        bail!(InvalidArgument, "no logit is above -inf: nothing can be drawn from such logits");
    }
    Ok(best.0)
}

/// The number between 0 and 1 that belongs to one step of one row: a hash of seed, row and step, so that it depends on
/// nothing else. Row `r` at seed `s` gets the numbers of row 0 at seed `s + r`.
pub(super) fn uniform(seed: u64, row: usize, step: usize) -> f64 {
    let key = mix(mix(seed.wrapping_add(row as u64)) ^ step as u64);
    (key >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64 (Steele, Lea, Flood 2014): every bit of the result depends on every bit of the input.
fn mix(key: u64) -> u64 {
    let z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
