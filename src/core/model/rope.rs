//! Rotary frequencies for every `rope_scaling` type, once per model.
//!
//! The formulas are those of mlx-lm's `initialize_rope` (0.32.2): `default`, `linear`, `dynamic` (NTK), `llama3`,
//! `yarn` (Peng et al. 2023), `longrope` (Ding et al. 2024; short factors for short rows, as transformers does), `mrope` for text; `proportional`
//! (only the first pairs turn), `alpha` and `reversed` (transformers' Hunyuan and nanochat); and `factors`, which multiplies
//! the frequencies' reciprocals by a list (GGUF's `rope_freqs`).

use serde_json::Value;

use crate::core::arch::tape::Rope;
use crate::core::tensor::{self, Array};
use crate::error::{Result, bail, err};

/// A rotation ready to be applied.
pub struct Rotation {
    dims: usize,
    interleaved: bool,
    base: Option<f64>,
    position_scale: f64,
    freqs: Option<Array>,
    /// Multiplies the turned features first (YaRN, LongRoPE).
    input_scale: f64,
    /// What the length of a row changes.
    by_length: ByLength,
}

/// Rotations that differ between short and long rows.
enum ByLength {
    Nothing,
    /// The base grows beyond `max` positions (dynamic NTK).
    Dynamic {
        max: f64,
        factor: f64,
    },
    /// Other frequencies, and perhaps another scale, beyond `max` positions (LongRoPE).
    Long {
        max: usize,
        freqs: Array,
        input_scale: f64,
    },
}

impl Rotation {
    /// Works out the frequencies of a description's `rotary`.
    pub fn new(spec: &Rope) -> Result<Self> {
        let (dims, base) = (spec.dims, spec.base);
        let scaling = spec.scaling.as_ref().filter(|s| s.is_object());
        let kind = scaling.and_then(|s| s.get("type").or_else(|| s.get("rope_type"))).and_then(Value::as_str);
        let mut rotation = Rotation {
            dims,
            interleaved: spec.interleaved,
            base: Some(base),
            position_scale: 1.0,
            freqs: None,
            input_scale: 1.0,
            by_length: ByLength::Nothing,
        };
        let Some(s) = scaling else { return Ok(rotation) };
        match kind.unwrap_or("default") {
            "default" | "mrope" => {}
            "linear" => rotation.position_scale = 1.0 / number(s, "factor")?,
            "dynamic" => {
                let max = spec.max_pos.ok_or_else(|| {
                    err!(Config, "rope_scaling of type 'dynamic' needs max_position_embeddings in config.json")
                })?;
                rotation.by_length = ByLength::Dynamic { max, factor: number(s, "factor")? };
            }
            "llama3" => rotation.set_freqs(&llama3(dims, base, s)?)?,
            "yarn" | "deepseek_yarn" | "telechat3-yarn" => {
                let (freqs, scale) = yarn(dims, base, s)?;
                rotation.input_scale = scale;
                rotation.set_freqs(&freqs)?;
            }
            "longrope" | "su" => {
                // Phi-3.5-MoE says both scales itself.
                rotation.input_scale = match s.get("short_mscale").and_then(Value::as_f64) {
                    Some(scale) => scale,
                    None => longrope_scale(spec.max_pos, s)?,
                };
                let input_scale = number_or(s, "long_mscale", rotation.input_scale)?;
                rotation.set_freqs(&times(&powers(dims, base), &numbers(s, "short_factor", dims / 2)?))?;
                let long = times(&powers(dims, base), &numbers(s, "long_factor", dims / 2)?);
                let max = number(s, "original_max_position_embeddings")? as usize;
                let freqs = Array::from_slice(&long, &[long.len()])?;
                rotation.by_length = ByLength::Long { max, freqs, input_scale };
            }
            // The base stretched once for all (NTK-aware scaling).
            "alpha" => {
                let power = dims as f64 / (dims as f64 - 2.0);
                rotation.base = Some(base * number(s, "alpha")?.powf(power));
            }
            // The other way round.
            "reversed" => rotation.set_freqs(&powers(dims, base).iter().map(|f| -f).collect::<Vec<_>>())?,
            // Only the first pairs turn, at the speed of a whole rotation; the halves stay as far apart as the dimensions say.
            "proportional" => {
                let part = number_or(s, "partial_rotary_factor", 1.0)?;
                if !(0.0..=1.0).contains(&part) {
                    bail!(Config, "rope_scaling.partial_rotary_factor must be between 0 and 1, found {part}");
                }
                let (turning, factor) = ((dims as f64 * part) as usize / 2, number_or(s, "factor", 1.0)? as f32);
                let freqs = powers(dims, base).into_iter().enumerate();
                let freqs = freqs.map(|(j, f)| if j < turning { factor * f } else { f32::INFINITY });
                rotation.set_freqs(&freqs.collect::<Vec<_>>())?;
            }
            "factors" => rotation.set_freqs(&times(&powers(dims, base), &numbers(s, "factors", dims / 2)?))?,
            other => bail!(
                Unsupported,
                "rope_scaling of type '{other}' is not known: use default, linear, dynamic, llama3, yarn or longrope"
            ),
        }
        Ok(rotation)
    }

    fn set_freqs(&mut self, freqs: &[f32]) -> Result<()> {
        self.base = None;
        self.freqs = Some(Array::from_slice(freqs, &[freqs.len()])?);
        Ok(())
    }

    /// Turns `x` `[rows, .., positions, features]`, each row's first position being in `starts`. Where the rotation
    /// depends on the length, each row is turned by its own, as it would be alone.
    pub fn apply(&self, x: &Array, starts: &[usize], lengths: &[usize]) -> Result<Array> {
        let same = |list: &[usize]| list.windows(2).all(|w| w[0] == w[1]);
        let by_length = !matches!(self.by_length, ByLength::Nothing);
        if (same(starts) && (same(lengths) || !by_length)) || x.dim(0) != starts.len() {
            let start = starts.first().copied().unwrap_or(0);
            return self.turn(x, start, start + lengths.first().copied().unwrap_or(0));
        }
        let rows = tensor::split(x, starts.len(), 0)?;
        let turned = rows.iter().zip(starts.iter().zip(lengths)).map(|(row, (s, n))| self.turn(row, *s, s + n));
        tensor::concatenate(&turned.collect::<Result<Vec<_>>>()?, 0)
    }

    fn turn(&self, x: &Array, offset: usize, length: usize) -> Result<Array> {
        let (mut base, mut freqs, mut scale) = (self.base, self.freqs.as_ref(), self.input_scale);
        match &self.by_length {
            ByLength::Nothing => {}
            ByLength::Dynamic { max, factor } => {
                let growth = factor * (length as f64).max(*max) / max - (factor - 1.0);
                let power = self.dims as f64 / (self.dims as f64 - 2.0);
                base = base.map(|b| b * growth.powf(power));
            }
            ByLength::Long { max, freqs: long, input_scale } if length > *max => {
                (freqs, scale) = (Some(long), *input_scale);
            }
            ByLength::Long { .. } => {}
        }
        let scaled = if scale == 1.0 { None } else { Some(self.scale_turned(x, scale)?) };
        let x = scaled.as_ref().unwrap_or(x);
        tensor::rope(x, self.dims, self.interleaved, base, self.position_scale, offset as i32, freqs)
    }

    fn scale_turned(&self, x: &Array, scale: f64) -> Result<Array> {
        let scale = tensor::weak(scale, x)?;
        if self.dims == x.dim(-1) {
            return tensor::mul(x, &scale);
        }
        let parts = tensor::split_at(x, &[self.dims as i32], -1)?;
        tensor::concatenate([&tensor::mul(&parts[0], &scale)?, &parts[1]], -1)
    }
}

fn number(s: &Value, key: &str) -> Result<f64> {
    match s.get(key).and_then(Value::as_f64) {
        Some(v) if v.is_finite() && v > 0.0 => Ok(v),
        _ => bail!(Config, "rope_scaling.{key} in config.json must be a positive number, found {}", shown(s.get(key))),
    }
}

fn number_or(s: &Value, key: &str, default: f64) -> Result<f64> {
    match s.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(v) => {
            v.as_f64().ok_or_else(|| err!(Config, "rope_scaling.{key} in config.json must be a number, found {v}"))
        }
    }
}

fn shown(v: Option<&Value>) -> String {
    v.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

/// One number for all, or a list of `n`.
fn numbers(s: &Value, key: &str, n: usize) -> Result<Vec<f32>> {
    match s.get(key) {
        Some(Value::Array(list)) if list.len() == n && list.iter().all(Value::is_number) => {
            Ok(list.iter().filter_map(Value::as_f64).map(|v| v as f32).collect())
        }
        Some(v) if v.is_number() => Ok(vec![v.as_f64().unwrap_or(1.0) as f32; n]),
        other => bail!(Config, "rope_scaling.{key} in config.json must be {n} numbers, found {}", shown(other)),
    }
}

/// `base^(2j/dims)`: the reciprocal frequencies, as MLX wants them.
fn powers(dims: usize, base: f64) -> Vec<f32> {
    (0..dims / 2).map(|j| (base as f32).powf(2.0 * j as f32 / dims as f32)).collect()
}

fn times(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(x, y)| x * y).collect()
}

fn llama3(dims: usize, base: f64, s: &Value) -> Result<Vec<f32>> {
    let factor = number(s, "factor")? as f32;
    let low = number_or(s, "low_freq_factor", 1.0)? as f32;
    let high = number_or(s, "high_freq_factor", 4.0)? as f32;
    let old = number_or(s, "original_max_position_embeddings", 8192.0)? as f32;
    let freqs = powers(dims, base).into_iter().map(|f| {
        let wavelength = 2.0 * std::f32::consts::PI * f;
        if wavelength > old / low {
            f * factor
        } else if wavelength > old / high {
            let smooth = (old / wavelength - low) / (high - low);
            f / ((1.0 - smooth) / factor + smooth)
        } else {
            f
        }
    });
    Ok(freqs.collect())
}

fn yarn(dims: usize, base: f64, s: &Value) -> Result<(Vec<f32>, f64)> {
    let factor = number(s, "factor")?;
    let old = number_or(s, "original_max_position_embeddings", 4096.0)?;
    let dim_of =
        |rotations: f64| dims as f64 * (old / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln());
    // transformers honours `truncate: false`; the weights were trained with it.
    let truncate = s.get("truncate").and_then(Value::as_bool).unwrap_or(true);
    let (mut low, mut high) = (dim_of(number_or(s, "beta_fast", 32.0)?), dim_of(number_or(s, "beta_slow", 1.0)?));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let freqs = powers(dims, base).into_iter().enumerate().map(|(j, extra)| {
        let mask = 1.0 - ((j as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        let inter = factor as f32 * extra;
        inter * extra / (inter * mask + extra * (1.0 - mask))
    });
    let mscale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let scale = match s.get("attention_factor").and_then(Value::as_f64) {
        Some(given) => given,
        None => mscale(number_or(s, "mscale", 1.0)?) / mscale(number_or(s, "mscale_all_dim", 0.0)?),
    };
    Ok((freqs.collect(), scale))
}

/// What LongRoPE multiplies queries and keys by: once for the model, whichever factors a row takes.
fn longrope_scale(max_pos: Option<f64>, s: &Value) -> Result<f64> {
    let old = number(s, "original_max_position_embeddings")?;
    let stretch = max_pos.unwrap_or(old) / old;
    let default = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / old.ln()).sqrt() };
    let given = s.get("attention_factor").or_else(|| s.get("long_mscale")).and_then(Value::as_f64);
    Ok(given.unwrap_or(default))
}

#[cfg(test)]
mod tests;
