//! What a lens saw: a table of next-token distributions, a row a layer, a column a position.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Component;
use crate::core::tensor::Array;
use crate::error::{Result, bail};
use crate::utils::{Axis, Grid};

/// A next token and how likely it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// Its id.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub probability: f32,
}

/// Where a token stands among all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Its id.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Its probability.
    pub probability: f32,
    /// 1 for the likeliest token, 2 for the next, …
    pub rank: u32,
}

/// One layer at one position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LensCell {
    /// The likeliest tokens, likeliest first.
    pub top: Vec<Cell>,
    /// Entropy of the distribution, in nats.
    pub entropy: f32,
    /// KL(final ‖ here), in nats: what is lost by taking this distribution for the model's own.
    pub kl: f32,
    /// The token that really comes next; none at a prompt's end.
    pub next: Option<Standing>,
    /// The tokens asked for, in their order.
    pub targets: Vec<Standing>,
}

/// One prompt as the lens saw it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// The positions read.
    pub positions: Vec<usize>,
    /// The prompt's tokens there.
    pub tokens: Vec<String>,
    /// `cells[layer][position]`, in the order of [`LogitLens::layers`] and `positions`.
    pub cells: Vec<Vec<LensCell>>,
}

/// What a lens saw of some prompts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitLens {
    /// "logit lens" or "tuned lens".
    pub lens: &'static str,
    /// The value of each layer that was read.
    pub component: Component,
    /// The layers; -1 is the embedding.
    pub layers: Vec<i64>,
    /// Texts of the tokens asked for.
    pub targets: Vec<String>,
    /// One a prompt.
    pub prompts: Vec<Reading>,
}

/// Which number of a cell is meant: what colours a figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shade {
    /// Probability of the likeliest token.
    #[default]
    Probability,
    /// Entropy, in nats.
    Entropy,
    /// KL(final ‖ here), in nats.
    Kl,
    /// Rank of the first token asked for, of the true next token where none was asked for.
    Rank,
}

impl fmt::Display for Shade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shade::Probability => "probability of the likeliest token",
            Shade::Entropy => "entropy in nats",
            Shade::Kl => "KL(final ‖ here) in nats",
            Shade::Rank => "rank of the token in question",
        })
    }
}

impl LensCell {
    /// One number of it; NaN where it has none (no next token).
    pub fn number(&self, shade: Shade) -> f32 {
        match shade {
            Shade::Probability => self.top.first().map_or(f32::NAN, |c| c.probability),
            Shade::Entropy => self.entropy,
            Shade::Kl => self.kl,
            Shade::Rank => self.targets.first().or(self.next.as_ref()).map_or(f32::NAN, |s| s.rank as f32),
        }
    }
}

impl LogitLens {
    /// What a layer is called: its number, or "embed".
    pub fn layer_names(&self) -> Vec<String> {
        self.layers.iter().map(|l| if *l < 0 { "embed".to_owned() } else { l.to_string() }).collect()
    }

    /// One number of every cell of a prompt. Axes: layer, position (the labels are the prompt's tokens).
    pub fn grid(&self, prompt: usize, shade: Shade) -> Result<Grid> {
        let Some(reading) = self.prompts.get(prompt) else {
            bail!(InvalidArgument, "no prompt {prompt}: the lens saw {}", self.prompts.len());
        };
        let values = reading.cells.iter().flatten().map(|c| c.number(shade)).collect();
        let axes = vec![Axis::new("layer", self.layer_names()), Axis::new("position", reading.tokens.clone())];
        Grid::new(axes, values)
    }

    /// Mean of a number over all positions of all prompts, a layer each; those that have none are left out.
    pub fn mean(&self, shade: Shade) -> Result<Grid> {
        let of_layer = |layer: usize| {
            let numbers: Vec<f32> = self
                .prompts
                .iter()
                .flat_map(|p| &p.cells[layer])
                .map(|c| c.number(shade))
                .filter(|v| !v.is_nan())
                .collect();
            numbers.iter().sum::<f32>() / numbers.len() as f32
        };
        Grid::new(vec![Axis::new("layer", self.layer_names())], (0..self.layers.len()).map(of_layer).collect())
    }

    /// Its numbers as arrays, prompt by prompt: `0.top_tokens` and `0.top_probability` `[layer, position, k]`, `0.entropy`
    /// and `0.kl` `[layer, position]`, and where tokens were asked for `0.target_probability` and `0.target_rank`
    /// `[layer, position, target]`. Float32, tokens and ranks uint32.
    pub fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let mut all = Vec::new();
        for (i, reading) in self.prompts.iter().enumerate() {
            let shape = [self.layers.len(), reading.positions.len()];
            let cells: Vec<&LensCell> = reading.cells.iter().flatten().collect();
            let k = cells.first().map_or(0, |c| c.top.len());
            let n = self.targets.len();
            let top: Vec<&Cell> = cells.iter().flat_map(|c| &c.top).collect();
            let targets: Vec<&Standing> = cells.iter().flat_map(|c| &c.targets).collect();
            let mut put = |name: &str, array: Array| all.push((format!("{i}.{name}"), array));
            let per_cell = |f: &dyn Fn(&LensCell) -> f32| {
                Array::from_slice(&cells.iter().map(|c| f(c)).collect::<Vec<f32>>(), &shape)
            };
            let (tokens, odds): (Vec<u32>, Vec<f32>) = top.iter().map(|c| (c.token, c.probability)).unzip();
            put("top_tokens", Array::from_slice(&tokens, &[shape[0], shape[1], k])?);
            put("top_probability", Array::from_slice(&odds, &[shape[0], shape[1], k])?);
            put("entropy", per_cell(&|c| c.entropy)?);
            put("kl", per_cell(&|c| c.kl)?);
            if n > 0 {
                let (ranks, odds): (Vec<u32>, Vec<f32>) = targets.iter().map(|s| (s.rank, s.probability)).unzip();
                put("target_rank", Array::from_slice(&ranks, &[shape[0], shape[1], n])?);
                put("target_probability", Array::from_slice(&odds, &[shape[0], shape[1], n])?);
            }
        }
        Ok(all)
    }
}

impl fmt::Display for LogitLens {
    /// The last position of every prompt, a line a layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reading) in self.prompts.iter().enumerate() {
            let token = reading.tokens.last().map_or("", String::as_str);
            writeln!(f, "{} of {}, prompt {i}, after {token:?}", self.lens, self.component)?;
            write!(f, "{:>7}  {:>8}  {:<16} {:>7}  {:>7}", "layer", "likely", "next token", "entropy", "KL")?;
            self.targets.iter().try_for_each(|t| write!(f, "  {:>18}", format!("rank of {t:?}")))?;
            writeln!(f)?;
            for (layer, cells) in self.layer_names().iter().zip(&reading.cells) {
                let Some(cell) = cells.last() else { continue };
                let (percent, text) = cell.top.first().map_or((0.0, ""), |c| (c.probability * 100.0, &*c.text));
                write!(f, "{layer:>7}  {percent:>6.1} %  {:<16}", format!("{text:?}"))?;
                write!(f, " {:>7.3}  {:>7.3}", cell.entropy, cell.kl)?;
                cell.targets.iter().try_for_each(|s| write!(f, "  {:>18}", s.rank))?;
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
