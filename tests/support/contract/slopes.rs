//! (l): the gradient at a site is how the output changes with it.

use mlxterp::core::intervention::Intervention;
use mlxterp::core::tensor::{self as t, Array, Dtype};
use mlxterp::core::trace::Trace;

use super::super::values;
use super::Contract;

/// How far a gradient may be from a difference of float32 outputs, relative to the size of either.
const SLOPE: f64 = 1e-2;
/// Sizes of the difference, relative to the site's own; the largest come first. A step that crosses a kink (another
/// expert chosen, a neuron switched off) says nothing of the slope, so any of them may agree.
const STEPS: [f64; 5] = [1e-2, 3e-3, 1e-3, 3e-4, 1e-4];

impl Contract<'_> {
    /// (l) at the embedding, and in the first and the last layer, with the first row.
    pub fn slopes(&mut self) {
        let last = self.model.num_layers().saturating_sub(1);
        let mut names = vec!["embed".to_owned(), "layers.0.output".to_owned()];
        let inner = ["attn.q", "attn.v", "attn.z", "attn.pattern", "mixer.output", "mlp.act", "mlp.output"];
        for layer in [0, last] {
            names.extend(inner.iter().map(|site| format!("layers.{layer}.{site}")));
        }
        names.retain(|n| self.has(n));
        names.dedup();
        for name in names {
            let number = self.model.sites().resolve(&name).unwrap_or_default();
            let differentiable = self.model.capabilities()[number].differentiable;
            match self.slope(&name) {
                Ok((gradient, nearest, size)) => {
                    let off = (gradient - nearest).abs() / size.max(1e-6);
                    let told =
                        format!("the gradient gives {gradient:.5}, the difference {nearest:.5}, off by {off:.0e}");
                    self.expect(off <= SLOPE || !differentiable, "(l)", &name, told);
                }
                Err(e) => self.expect(!differentiable, "(l)", &name, e),
            }
        }
    }

    /// The derivative along a random direction by the gradient, the difference that is nearest to it, and their size.
    fn slope(&self, site: &str) -> mlxterp::Result<(f64, f64, f64)> {
        let ids = self.rows[0].clone();
        let start = self.model.trace(ids.clone())?;
        let measure = |trace: &Trace| -> mlxterp::Result<Array> {
            let last = t::cast(&trace.last_logits()?, Dtype::Float32)?;
            t::sum(&t::mul(&last, &t::random_normal(last.shape(), Dtype::Float32, 3)?)?, -1, false)
        };
        let found = start.gradients(&[site], measure)?;
        let (gradient, value) = (&found.gradients[0], &found.values[0]);
        let direction = t::random_normal(gradient.shape(), Dtype::Float32, 5)?;
        let norm = |a: &Array| t::norm_all(a)?.item();
        let scale = norm(value)? / (value.size() as f64).sqrt();
        let slope = scale * t::sum_all(&t::mul(gradient, &direction)?)?.item()?;
        // What the derivative along a random direction usually is, should this one happen to be small.
        let size = slope.abs().max(scale * norm(gradient)?);
        let moved = |by: f64| -> mlxterp::Result<f64> {
            let trace = self.model.trace(ids.clone())?;
            trace.intervene(site, Intervention::add_vector(direction.clone(), by * scale))?;
            Ok(f64::from(values(&measure(&trace)?)[0]))
        };
        let mut nearest = f64::INFINITY;
        for h in STEPS {
            let central = |h: f64| Ok::<_, mlxterp::Error>((moved(h)? - moved(-h)?) / (2.0 * h));
            // Richardson: two central differences cancel each other's error of third order.
            let difference = (4.0 * central(h)? - central(2.0 * h)?) / 3.0;
            if (difference - slope).abs() < (nearest - slope).abs() {
                nearest = difference;
            }
            if (nearest - slope).abs() <= SLOPE * size.max(1e-6) {
                break;
            }
        }
        Ok((slope, nearest, size))
    }
}
