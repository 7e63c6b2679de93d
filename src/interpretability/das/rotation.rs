//! Directions that are always at right angles to each other and of length 1, as a function of free numbers.

use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail};

/// `[width, k]`: the first `k` columns of a product of `k` reflections, whose mirrors' normals are the columns of `free`
/// `[width, k]` (Householder 1958). Every set of `k` directions at right angles is reached, up to signs, and no step of a
/// descent on the free numbers can leave the set. Lazy, and gradients pass.
pub fn frame(free: &Array) -> Result<Array> {
    let (width, k) = (free.dim(0), free.dim(1));
    if k == 0 || k > width {
        bail!(InvalidArgument, "{k} directions in a state of width {width}: from 1 to {width}");
    }
    let mut unit = vec![0.0f32; width * k];
    (0..k).for_each(|i| unit[i * k + i] = 1.0);
    let mut columns = Array::from_slice(&unit, &[width, k])?;
    let two = Array::scalar(2.0, Dtype::Float32)?;
    for i in (0..k as i32).rev() {
        let normal = tensor::slice(free, &[0, i], &[width as i32, i + 1], &[1, 1])?;
        let along = tensor::matmul(&tensor::transpose(&normal, &[1, 0])?, &columns)?;
        let length = tensor::sum_all(&tensor::square(&normal)?)?;
        let change = tensor::matmul(&normal, &tensor::div(&tensor::mul(&along, &two)?, &length)?)?;
        columns = tensor::sub(&columns, &change)?;
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_at_right_angles_and_gradients_are_differences() {
        let free = tensor::random_normal(&[7, 3], Dtype::Float32, 5).unwrap();
        let columns = frame(&free).unwrap();
        let products = tensor::matmul(&tensor::transpose(&columns, &[1, 0]).unwrap(), &columns).unwrap();
        for (i, v) in products.to_vec::<f32>().unwrap().iter().enumerate() {
            let wanted = if i % 4 == 0 { 1.0 } else { 0.0 };
            assert!((v - wanted).abs() < 1e-5, "{i}: {v}");
        }
        let weights = tensor::random_normal(&[7, 3], Dtype::Float32, 6).unwrap();
        let value = |x: &Array| tensor::sum_all(&tensor::mul(&frame(x)?, &weights)?);
        let (_, gradients) = tensor::value_and_gradients(std::slice::from_ref(&free), |x| value(&x[0])).unwrap();
        let gradients = gradients[0].to_vec::<f32>().unwrap();
        let numbers = free.to_vec::<f32>().unwrap();
        for i in [0, 8, 20] {
            let at = |step: f32| {
                let mut moved = numbers.clone();
                moved[i] += step;
                value(&Array::from_slice(&moved, &[7, 3]).unwrap()).unwrap().item().unwrap()
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((difference - f64::from(gradients[i])).abs() < 2e-3, "{difference} {}", gradients[i]);
        }
        assert!(frame(&tensor::full(&[2, 3], 1.0, Dtype::Float32).unwrap()).is_err());
    }
}
