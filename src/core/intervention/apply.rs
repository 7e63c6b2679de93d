//! Doing it: lazily, keeping the site's dtype and shape.

use super::Intervention;
use super::kind::{Event, Kind};
use super::selector::axes;
use crate::core::arch::tape::Layout;
use crate::core::tensor::{self as t, Array, Dtype};
use crate::core::trace::{Batch, fit};
use crate::error::{ErrorKind, Result, bail, err};

/// Where an intervention is applied.
pub struct Scene<'a> {
    /// Full name of the site.
    pub site: &'a str,
    /// Its number in the model: noise differs from site to site by it.
    pub site_number: u64,
    /// How its axes are to be read.
    pub layout: Layout,
    /// Generation step; 0 in a plain forward.
    pub step: usize,
    /// The run's tokens.
    pub batch: &'a Batch,
}

impl Intervention {
    /// The changed value: same shape, same dtype, nothing computed yet.
    pub fn apply(&self, old: &Array, scene: &Scene<'_>) -> Result<Array> {
        let new = self.changed(old, scene).map_err(|e| match e.kind() {
            ErrorKind::Callback => e,
            _ => e.context(format!("{self} at '{}'", scene.site)),
        })?;
        if self.select.is_empty() {
            return Ok(new);
        }
        let mask = self.select.mask(scene.site, scene.layout, old.shape(), scene.batch)?;
        t::select(&mask, &new, old)
    }

    fn changed(&self, old: &Array, scene: &Scene<'_>) -> Result<Array> {
        self.kind.check()?;
        match &self.kind {
            Kind::ZeroOut => t::zeros_like(old),
            Kind::Scale { factor } => t::mul(old, &t::weak(*factor, old)?),
            Kind::AddVector { vector, strength } => {
                let v = t::cast(&vector.0, old.dtype())?;
                let v = if *strength == 1.0 { v } else { t::mul(&v, &t::weak(*strength, old)?)? };
                let v = fit(&v, old)?;
                // Nothing added leaves every bit: adding 0 would turn -0 into 0.
                if *strength == 0.0 { Ok(old.clone()) } else { t::add(old, &v) }
            }
            Kind::ReplaceWith { value } => fit(&value.0, old),
            Kind::Clamp { low, high } => t::clip(old, *low, *high),
            Kind::Noise { std, seed } => {
                let noise = t::cast(&noise_like(old, *seed, scene)?, old.dtype())?;
                t::add(old, &t::mul(&noise, &t::weak(*std, old)?)?)
            }
            Kind::ProjectOut { direction } => along(old, &direction.0, None),
            Kind::SetComponent { direction, value } => along(old, &direction.0, Some(*value)),
            Kind::Compose { parts } => parts.iter().try_fold(old.clone(), |value, part| part.apply(&value, scene)),
            Kind::Custom(custom) => {
                let event = Event { site: scene.site, step: scene.step, lengths: scene.batch.lengths() };
                match custom.call(&event, old)? {
                    None => Ok(old.clone()),
                    Some(new) => fit(&new, old).map_err(|e| e.context(custom.name())),
                }
            }
        }
    }
}

/// The value with its component along a direction taken out, or set to a number. Computed in float32: in half precision
/// what is left of a large component would be of the size of what it is asked to be.
fn along(old: &Array, direction: &Array, component: Option<f64>) -> Result<Array> {
    if old.ndim() == 0 || direction.dim(-1) != old.dim(-1) {
        bail!(
            Shape,
            "a direction of shape {:?} at a site of shape {:?}: their last axes must be equal",
            direction.shape(),
            old.shape()
        );
    }
    fit(direction, old)?;
    // The largest number first: the square of a small or large one would not be a float32.
    let wide = t::cast(direction, Dtype::Float32)?;
    let wide = t::div(&wide, &t::max(&t::abs(&wide)?, -1, true)?)?;
    let unit = t::div(&wide, &t::norm(&wide, -1, true)?)?;
    let x = t::cast(old, Dtype::Float32)?;
    let there = t::sum(&t::mul(&x, &unit)?, -1, true)?;
    let change = match component {
        None => t::neg(&there)?,
        Some(value) => t::sub(&t::weak(value, &there)?, &there)?,
    };
    t::cast(&t::add(&x, &t::mul(&change, &unit)?)?, old.dtype())
}

/// Standard normal numbers of the site's shape. Each row is drawn alone at its own length, so that it gets in a padded
/// batch what it gets in a run of its own.
fn noise_like(old: &Array, seed: u64, scene: &Scene<'_>) -> Result<Array> {
    let Some(axes) = axes(scene.layout, old.ndim()) else {
        bail!(InvalidArgument, "noise needs a site with rows and positions; this one has shape {:?}", old.shape());
    };
    // SplitMix64's increment spreads neighbouring site numbers over the key space.
    let key = seed ^ scene.site_number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // Each step of a generation draws anew.
    let key = key ^ (scene.step as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    let Some(position) = axes.position else {
        let mut shape = old.shape().to_vec();
        shape[0] = 1;
        let own = t::random_normal(&shape, Dtype::Float32, key)?;
        return t::broadcast_to(&own, old.shape());
    };
    let width = old.dim(position as i32);
    let mut by_length: Vec<(usize, Array)> = Vec::new();
    let mut rows = Vec::new();
    for length in scene.batch.lengths() {
        if let Some((_, done)) = by_length.iter().find(|(n, _)| n == length) {
            rows.push(done.clone());
            continue;
        }
        let mut shape = old.shape().to_vec();
        (shape[0], shape[position]) = (1, *length as i32);
        let own = if *length == 0 {
            t::full(&shape, 0.0, Dtype::Float32)?
        } else {
            t::random_normal(&shape, Dtype::Float32, key)?
        };
        shape[position] = (width - length) as i32;
        let row = if width == *length {
            own
        } else {
            t::concatenate([&own, &t::full(&shape, 0.0, Dtype::Float32)?], position as i32)?
        };
        by_length.push((*length, row.clone()));
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(err!(InvalidArgument, "noise on an empty batch"));
    }
    t::concatenate(&rows, 0)
}
