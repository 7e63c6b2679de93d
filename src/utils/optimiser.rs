//! How parameters follow their gradients.

use serde::{Deserialize, Serialize};

use crate::core::tensor::{self, Array};
use crate::error::Result;

/// A rule for the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimiser {
    /// Adam (Kingma and Ba, 2015), with 0.9, 0.999 and 1e-8.
    #[default]
    Adam,
    /// Stochastic gradient descent with Nesterov momentum of 0.9, as the paper has it.
    Sgd,
}

impl Optimiser {
    /// The rate that is usual.
    pub fn usual_rate(self) -> f64 {
        match self {
            Optimiser::Adam => 1e-3,
            Optimiser::Sgd => 1.0,
        }
    }
}

/// One parameter's past.
pub struct Moments {
    first: Array,
    second: Array,
    steps: i32,
}

impl Moments {
    /// None yet: a parameter before its first step.
    pub fn new(parameter: &Array) -> Result<Self> {
        let zeros = tensor::zeros_like(parameter)?;
        Ok(Self { first: zeros.clone(), second: zeros, steps: 0 })
    }

    /// The parameter after a step, lazily.
    pub fn step(&mut self, rule: Optimiser, rate: f64, parameter: &Array, gradient: &Array) -> Result<Array> {
        let by = |a: &Array, factor: f64| tensor::mul(a, &tensor::weak(factor, a)?);
        self.steps += 1;
        let change = match rule {
            Optimiser::Sgd => {
                self.first = tensor::add(&by(&self.first, 0.9)?, gradient)?;
                tensor::add(gradient, &by(&self.first, 0.9)?)?
            }
            Optimiser::Adam => {
                self.first = tensor::add(&by(&self.first, 0.9)?, &by(gradient, 0.1)?)?;
                self.second = tensor::add(&by(&self.second, 0.999)?, &by(&tensor::square(gradient)?, 0.001)?)?;
                let mean = by(&self.first, 1.0 / (1.0 - 0.9f64.powi(self.steps)))?;
                let size = tensor::sqrt(&by(&self.second, 1.0 / (1.0 - 0.999f64.powi(self.steps)))?)?;
                tensor::div(&mean, &tensor::add(&size, &tensor::weak(1e-8, &size)?)?)?
            }
        };
        tensor::sub(parameter, &by(&change, rate)?)
    }

    /// What has to be computed so that no graph grows behind it.
    pub fn arrays(&self) -> [&Array; 2] {
        [&self.first, &self.second]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tensor::Dtype;

    /// The first steps by hand: Adam's are as long as the rate, whatever the gradient.
    #[test]
    fn steps_are_those_of_the_papers() {
        let x = Array::from_slice(&[1.0f32, -2.0], &[2]).unwrap();
        let g = Array::from_slice(&[0.5f32, -4.0], &[2]).unwrap();
        let mut moments = Moments::new(&x).unwrap();
        let after = moments.step(Optimiser::Adam, 0.1, &x, &g).unwrap().to_vec::<f32>().unwrap();
        assert!((after[0] - 0.9).abs() < 1e-6 && (after[1] + 1.9).abs() < 1e-6, "{after:?}");
        let mut moments = Moments::new(&x).unwrap();
        let one = moments.step(Optimiser::Sgd, 0.1, &x, &g).unwrap();
        let two = moments.step(Optimiser::Sgd, 0.1, &one, &g).unwrap().to_vec::<f32>().unwrap();
        // Velocities g, 1.9 g; changes 1.9 g, 2.71 g.
        assert!((two[0] - (1.0 - 0.1 * 4.61 * 0.5)).abs() < 1e-6, "{two:?}");
        assert_eq!(one.dtype(), Dtype::Float32);
    }
}
