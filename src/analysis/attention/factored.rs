//! A matrix that is a product of two thin ones, as QK and OV circuits are: everything asked of it is worked out on the
//! thin side.

use nalgebra::DMatrix;
use serde::Serialize;

use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail};

/// `A B` with `A` `[m, r]` and `B` `[r, n]`, float32, not multiplied out.
#[derive(Clone, Debug)]
pub struct FactoredMatrix {
    a: Array,
    b: Array,
}

/// A singular value decomposition `U diag(s) V^T`, of as many values as the rank can be.
#[derive(Clone, Debug)]
pub struct Svd {
    /// `[m, k]`, orthonormal columns.
    pub u: Array,
    /// `k` singular values, largest first.
    pub s: Vec<f32>,
    /// `[n, k]`, orthonormal columns.
    pub v: Array,
}

/// An eigenvalue.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Eigenvalue {
    /// Real part.
    pub re: f32,
    /// Imaginary part.
    pub im: f32,
}

impl Eigenvalue {
    /// Its size, `|λ|`.
    pub fn size(self) -> f32 {
        self.re.hypot(self.im)
    }
}

impl FactoredMatrix {
    /// `a` `[m, r]` times `b` `[r, n]`; both become float32.
    pub fn new(a: &Array, b: &Array) -> Result<Self> {
        if a.ndim() != 2 || b.ndim() != 2 || a.dim(1) != b.dim(0) {
            bail!(Shape, "factors of shapes {:?} and {:?}: [m, r] and [r, n] are needed", a.shape(), b.shape());
        }
        if a.size() == 0 || b.size() == 0 {
            bail!(Shape, "factors of shapes {:?} and {:?} hold nothing", a.shape(), b.shape());
        }
        Ok(Self { a: tensor::cast(a, Dtype::Float32)?, b: tensor::cast(b, Dtype::Float32)? })
    }

    /// The left factor `[m, r]`.
    pub fn a(&self) -> &Array {
        &self.a
    }

    /// The right factor `[r, n]`.
    pub fn b(&self) -> &Array {
        &self.b
    }

    /// `[m, n]`, the shape of the product.
    pub fn shape(&self) -> [usize; 2] {
        [self.a.dim(0), self.b.dim(1)]
    }

    /// `r`: the rank is at most this.
    pub fn inner(&self) -> usize {
        self.a.dim(1)
    }

    /// The whole matrix `[m, n]`, lazily: the one thing here that has so many numbers.
    pub fn product(&self) -> Result<Array> {
        tensor::matmul(&self.a, &self.b)
    }

    /// `x A B` for rows `x` `[…, m]`.
    pub fn left(&self, x: &Array) -> Result<Array> {
        tensor::matmul(&tensor::matmul(&tensor::cast(x, Dtype::Float32)?, &self.a)?, &self.b)
    }

    /// `A B y` for columns `y` `[n, …]`.
    pub fn right(&self, y: &Array) -> Result<Array> {
        tensor::matmul(&self.a, &tensor::matmul(&self.b, &tensor::cast(y, Dtype::Float32)?)?)
    }

    /// `(A B)^T = B^T A^T`.
    pub fn transpose(&self) -> Result<Self> {
        Self::new(&tensor::swap_axes(&self.b, 0, 1)?, &tensor::swap_axes(&self.a, 0, 1)?)
    }

    /// This times another factored matrix, factored again with the smaller of the inner sides.
    pub fn times(&self, other: &FactoredMatrix) -> Result<Self> {
        let between = tensor::matmul(&self.b, &other.a)?;
        if self.inner() <= other.inner() {
            Self::new(&self.a, &tensor::matmul(&between, &other.b)?)
        } else {
            Self::new(&tensor::matmul(&self.a, &between)?, &other.b)
        }
    }

    /// The Frobenius norm: `tr(A^T A B B^T)` is a sum over `r` times `r` numbers.
    pub fn norm(&self) -> Result<f32> {
        let transposed = |x: &Array| tensor::swap_axes(x, 0, 1);
        let left = tensor::matmul(&transposed(&self.a)?, &self.a)?;
        let right = tensor::matmul(&self.b, &transposed(&self.b)?)?;
        let squared = tensor::sum_all(&tensor::mul(&left, &right)?)?.item()?;
        Ok(squared.max(0.0).sqrt() as f32)
    }

    /// Singular values and vectors, from the factors' QR decompositions and a matrix of `r` times `r`, in float64.
    pub fn svd(&self) -> Result<Svd> {
        let (a, b) = (matrix(&self.a)?, matrix(&self.b)?);
        if a.iter().chain(b.iter()).any(|v| !v.is_finite()) {
            bail!(InvalidArgument, "a matrix with numbers that are not finite has no singular values");
        }
        let (left, right) = (a.qr(), b.transpose().qr());
        let small = (left.r() * right.r().transpose()).svd(true, true);
        let (Some(u), Some(v)) = (small.u, small.v_t) else { bail!(Backend, "the decomposition gave no vectors") };
        Ok(Svd {
            u: array(&(left.q() * u))?,
            s: small.singular_values.iter().map(|s| *s as f32).collect(),
            v: array(&(right.q() * v.transpose()))?,
        })
    }

    /// The eigenvalues that are not zero for lack of rank, largest first: those of `B A`, `r` times `r`. The product must
    /// be square.
    pub fn eigenvalues(&self) -> Result<Vec<Eigenvalue>> {
        let [m, n] = self.shape();
        if m != n {
            bail!(Shape, "a matrix of {m} times {n} has no eigenvalues: it must be square");
        }
        eigenvalues(&tensor::matmul(&self.b, &self.a)?)
    }

    /// The sum of the diagonal. The product must be square.
    pub fn trace(&self) -> Result<f32> {
        let [m, n] = self.shape();
        if m != n {
            bail!(Shape, "a matrix of {m} times {n} has no trace: it must be square");
        }
        let both = tensor::mul(&self.a, &tensor::swap_axes(&self.b, 0, 1)?)?;
        Ok(tensor::sum_all(&both)?.item()? as f32)
    }
}

/// The eigenvalues of a small square matrix, largest first, in float64.
pub(super) fn eigenvalues(small: &Array) -> Result<Vec<Eigenvalue>> {
    let small = matrix(small)?;
    if small.iter().any(|v| !v.is_finite()) {
        bail!(InvalidArgument, "a matrix with numbers that are not finite has no eigenvalues");
    }
    // The decomposition may fail to end on no matrix that is finite, but a limit costs nothing.
    let Some(schur) = nalgebra::Schur::try_new(small, f64::EPSILON, 10_000) else {
        bail!(Backend, "the eigenvalues did not converge")
    };
    let found = schur.complex_eigenvalues();
    let mut all: Vec<_> = found.iter().map(|c| Eigenvalue { re: c.re as f32, im: c.im as f32 }).collect();
    all.sort_by(|x, y| y.size().total_cmp(&x.size()).then(y.re.total_cmp(&x.re)).then(y.im.total_cmp(&x.im)));
    Ok(all)
}

fn matrix(array: &Array) -> Result<DMatrix<f64>> {
    let numbers: Vec<f64> = array.to_vec::<f32>()?.into_iter().map(f64::from).collect();
    Ok(DMatrix::from_row_slice(array.dim(0), array.dim(1), &numbers))
}

fn array(matrix: &DMatrix<f64>) -> Result<Array> {
    let numbers: Vec<f32> = matrix.transpose().iter().map(|v| *v as f32).collect();
    Array::from_slice(&numbers, &[matrix.nrows(), matrix.ncols()])
}
