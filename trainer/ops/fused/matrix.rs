//! Products of matrices that lie in slices, by the `gemm` crate.

use gemm::Parallelism;

use super::room::zeros;

/// `[rows, cols]` in a slice: element (r, c) is at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, filling `data`.
    pub fn new(data: &'a [f32], cols: usize) -> Self {
        Self::columns(data, cols, 0, cols)
    }

    /// `cols` columns from `from` of a row-major matrix of `stride` columns.
    pub fn columns(data: &'a [f32], stride: usize, from: usize, cols: usize) -> Self {
        let rows = data.len() / stride;
        assert!(from + cols <= stride && rows * stride == data.len(), "columns of a matrix");
        // Of nothing, `from` may be past the end.
        let data = data.get(from..).unwrap_or_default();
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// Row-major columns of a matrix that is written.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Row-major, filling `data`.
    pub fn new(data: &'a mut [f32], cols: usize) -> Self {
        Self::columns(data, cols, 0, cols)
    }

    /// As [`Matrix::columns`].
    pub fn columns(data: &'a mut [f32], stride: usize, from: usize, cols: usize) -> Self {
        let rows = data.len() / stride;
        assert!(from + cols <= stride && rows * stride == data.len(), "columns of a matrix");
        let data = data.get_mut(from..).unwrap_or_default();
        Self { data, rows, cols, stride }
    }
}

/// What becomes of what was in the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    Overwrite,
    Add,
}

/// `out = scale * a b`, or added to it, on all threads of the pool.
pub fn multiply(out: MatrixMut<'_>, into: Into, scale: f32, a: Matrix<'_>, b: Matrix<'_>) {
    product(out, into, scale, a, b, Parallelism::Rayon(0));
}

/// As [`multiply`], on this thread alone.
pub fn multiply_here(out: MatrixMut<'_>, into: Into, scale: f32, a: Matrix<'_>, b: Matrix<'_>) {
    product(out, into, scale, a, b, Parallelism::None);
}

/// `x` `[.., in]` by the transpose of `weight` `[out, in]`: row-major `[.., out]`.
pub fn linear(x: Matrix<'_>, weight: Matrix<'_>) -> Vec<f32> {
    let mut out = zeros(x.rows * weight.rows);
    let cols = weight.rows;
    multiply(MatrixMut::new(&mut out, cols), Into::Overwrite, 1.0, x, weight.transposed());
    out
}

/// By a weight `[out, in]`: `d_out` `[tokens, out]` transposed, times the input `[tokens, in]`.
pub fn weight_gradient(d_out: Matrix<'_>, input: Matrix<'_>) -> Vec<f32> {
    linear(d_out.transposed(), input.transposed())
}

fn product(
    out: MatrixMut<'_>,
    into: Into,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    let (m, n, k) = (out.rows, out.cols, a.cols);
    assert!(a.rows == m && b.cols == n && b.rows == k, "shapes of a product of matrices");
    let stride = |stride: usize| stride.cast_signed();
    // SAFETY: the constructors have seen that every element of each matrix is within its slice,
    // and no two elements of `out` are the same; `out` is borrowed alone; the shapes fit.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            1,
            stride(out.stride),
            into == Into::Add,
            a.data.as_ptr(),
            stride(a.col_stride),
            stride(a.row_stride),
            b.data.as_ptr(),
            stride(b.col_stride),
            stride(b.row_stride),
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(matrix: &Matrix<'_>, row: usize, col: usize) -> f32 {
        matrix.data[row * matrix.row_stride + col * matrix.col_stride]
    }

    proptest! {
        #[test]
        fn columns_of_matrices_are_multiplied_and_what_is_beside_them_stays(
            (m, n, k) in (0_usize..20, 1_usize..20, 1_usize..20),
            (before, after) in (0_usize..3, 0_usize..3),
            add in any::<bool>(),
        ) {
            let small = |len: usize, seed: usize| -> Vec<f32> {
                (0..len).map(|i| ((i * 7 + seed) % 11) as f32 - 5.0).collect()
            };
            let stride = before + n + after;
            let (a, b, old) = (small(m * k, 1), small(k * stride, 2), small(m * stride, 3));
            let (a, b) = (Matrix::new(&a, k), Matrix::columns(&b, stride, before, n));
            let mut out = old.clone();
            let into = if add { Into::Add } else { Into::Overwrite };
            multiply(MatrixMut::columns(&mut out, stride, before, n), into, 2.0, a, b);
            for (index, (found, old)) in out.iter().zip(&old).enumerate() {
                let (row, col) = (index / stride, index % stride);
                let within = (before..before + n).contains(&col);
                let product: f32 =
                    (0..k).filter(|_| within).map(|i| at(&a, row, i) * at(&b, i, col - before)).sum();
                let kept = if add || !within { *old } else { 0.0 };
                prop_assert_eq!(*found, kept + 2.0 * product);
            }
        }
    }
}
