//! Texts cut into sequences, shuffled, and a part of them held out.

use crate::core::model::{Model, Prompts};
use crate::core::tensor::{self, Dtype};
use crate::core::trace::Place;
use crate::error::{Result, bail};

/// Sequences to train on and sequences to test on.
pub(super) struct Data {
    pub train: Vec<Vec<u32>>,
    pub held_out: Vec<Vec<u32>>,
}

impl Data {
    /// Cuts every text into sequences of at most `length` tokens, and holds out a share of them, at least one.
    pub fn new(model: &Model, texts: Prompts, length: usize, share: f64, seed: u64) -> Result<Self> {
        let rows = match texts {
            Prompts::Tokens(rows) => rows,
            // Longer texts than the model's context are cut here, so they are not checked as prompts yet.
            Prompts::Text(texts) => {
                let tokenizer = model.tokenizer()?;
                texts.iter().map(|t| tokenizer.encode_prompt(t)).collect::<Result<Vec<_>>>()?
            }
            Prompts::Arrays(_) => {
                bail!(InvalidArgument, "a tuned lens is trained on texts or token ids, not on arrays")
            }
        };
        // A single token says little; one at a text's end is left out.
        let cut: Vec<Vec<u32>> =
            rows.iter().flat_map(|r| r.chunks(length)).filter(|c| c.len() > 1).map(<[u32]>::to_vec).collect();
        if cut.len() < 2 {
            bail!(
                InvalidArgument,
                "{} texts give {} sequences of at least 2 tokens: training needs at least two, one of them to hold out",
                rows.len(),
                cut.len()
            );
        }
        let held = ((cut.len() as f64 * share).round() as usize).clamp(1, cut.len() - 1);
        let mut mixed: Vec<Vec<u32>> = shuffled(cut.len(), seed)?.into_iter().map(|i| cut[i].clone()).collect();
        let train = mixed.split_off(held);
        Ok(Self { train, held_out: mixed })
    }
}

/// 0 to n - 1 in an order that the seed says.
pub(super) fn shuffled(n: usize, seed: u64) -> Result<Vec<usize>> {
    let order = tensor::argsort(&tensor::random_normal(&[n as i32], Dtype::Float32, seed)?, 0)?;
    Ok(order.to_vec::<u32>()?.into_iter().map(|i| i as usize).collect())
}

/// Some of the tokens of rows, all of them where there are no more than `most`.
pub(super) fn sample(rows: &[Vec<u32>], most: usize, seed: u64) -> Result<Vec<Place>> {
    let all: Vec<Place> = rows.iter().enumerate().flat_map(|(r, row)| (0..row.len()).map(move |p| (r, p))).collect();
    if all.len() <= most {
        return Ok(all);
    }
    let mut some: Vec<usize> = shuffled(all.len(), seed)?.into_iter().take(most).collect();
    some.sort_unstable();
    Ok(some.into_iter().map(|i| all[i]).collect())
}

/// Numbers of rows, batch by batch: every row once in an order of its own, then again in another.
pub(super) struct Batches {
    rows: usize,
    size: usize,
    seed: u64,
    epoch: u64,
    left: Vec<usize>,
}

impl Batches {
    pub fn new(rows: usize, size: usize, seed: u64) -> Self {
        Self { rows, size: size.min(rows), seed, epoch: 0, left: Vec::new() }
    }

    pub fn next(&mut self) -> Result<Vec<usize>> {
        let mut batch = Vec::new();
        while batch.len() < self.size {
            if self.left.is_empty() {
                self.epoch += 1;
                self.left = shuffled(self.rows, self.seed.wrapping_add(self.epoch.wrapping_mul(0x9e37_79b9)))?;
            }
            let n = (self.size - batch.len()).min(self.left.len());
            batch.extend(self.left.drain(..n));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_an_epoch_in_an_order_of_the_seed() {
        let order = |seed| {
            let mut batches = Batches::new(5, 2, seed);
            (0..5).flat_map(|_| batches.next().unwrap()).collect::<Vec<usize>>()
        };
        let (a, b) = (order(1), order(2));
        assert_eq!((a.clone(), a != b), (order(1), true));
        for epoch in a.chunks(5) {
            let mut seen = epoch.to_vec();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4]);
        }
        assert_ne!(a[..5], a[5..], "each epoch is shuffled anew");
    }

    #[test]
    fn a_sample_is_of_real_tokens_without_repetition() {
        let rows = [vec![1; 4], vec![1; 2]];
        assert_eq!(sample(&rows, 6, 0).unwrap(), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]);
        let some = sample(&rows, 4, 7).unwrap();
        assert!(
            some.len() == 4 && some.windows(2).all(|w| w[0] < w[1]) && some.iter().all(|(r, p)| *p < rows[*r].len())
        );
    }
}
