//! Speed of MLX's matrix product on three shapes: how the BLAS under the CPU backend is chosen.

use std::time::{Duration, Instant};

use mlxterp::Result;
use mlxterp::core::tensor::{Dtype, matmul, random_normal};

fn main() -> Result<()> {
    for (m, n, k) in [(1024, 1024, 1024), (128, 1536, 576), (1, 1536, 576)] {
        let a = random_normal(&[m, k], Dtype::Float32, 1)?;
        let b = random_normal(&[k, n], Dtype::Float32, 2)?;
        a.eval()?;
        b.eval()?;
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < 5 || begin.elapsed() < Duration::from_millis(500) {
            let product = matmul(&a, &b)?;
            let start = Instant::now();
            product.eval()?;
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let flops = 2.0 * f64::from(m) * f64::from(n) * f64::from(k);
        println!("  {m} x {n} x {k}: {:.1} GFLOP/s (median of {})", flops / median / 1e9, times.len());
    }
    Ok(())
}
