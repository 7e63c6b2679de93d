//! Numbers with named axes: what most analyses end in.

use std::fmt;

use serde::Serialize;

use crate::core::tensor::Array;
use crate::error::{Result, bail};

/// One axis of a [`Grid`]: its name and a label for each place along it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Axis {
    /// "layer", "position", "head", …
    pub name: String,
    /// One a place.
    pub labels: Vec<String>,
}

impl Axis {
    /// An axis with labels of its own.
    pub fn new<L: Into<String>>(name: &str, labels: impl IntoIterator<Item = L>) -> Self {
        Self { name: name.to_owned(), labels: labels.into_iter().map(Into::into).collect() }
    }

    /// An axis whose labels are 0, 1, 2, …
    pub fn counted(name: &str, n: usize) -> Self {
        Self::new(name, (0..n).map(|i| i.to_string()))
    }

    /// Number of places.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no places.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Float32 numbers in row-major order over named axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// The axes, outermost first.
    pub axes: Vec<Axis>,
    /// As many numbers as the product of the axes' lengths.
    pub values: Vec<f32>,
}

impl Grid {
    /// Numbers over axes; as many as the axes say.
    pub fn new(axes: Vec<Axis>, values: Vec<f32>) -> Result<Self> {
        let wanted: usize = axes.iter().map(Axis::len).product();
        if wanted != values.len() {
            bail!(
                Shape,
                "{} numbers for axes of {:?} places",
                values.len(),
                axes.iter().map(Axis::len).collect::<Vec<_>>()
            );
        }
        Ok(Self { axes, values })
    }

    /// An array's elements over axes, computed now.
    pub fn of(axes: Vec<Axis>, array: &Array) -> Result<Self> {
        Self::new(axes, array.to_vec::<f32>()?)
    }

    /// Lengths of the axes.
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(Axis::len).collect()
    }

    /// The number at one place of each axis.
    ///
    /// # Panics
    /// When there is no such place.
    pub fn at(&self, place: &[usize]) -> f32 {
        assert_eq!(place.len(), self.axes.len(), "one place for each axis");
        let mut flat = 0;
        for (p, axis) in place.iter().zip(&self.axes) {
            assert!(*p < axis.len(), "place {p} of axis '{}', which has {}", axis.name, axis.len());
            flat = flat * axis.len() + p;
        }
        self.values[flat]
    }

    /// The numbers as an array of the grid's shape, float32.
    pub fn to_array(&self) -> Result<Array> {
        Array::from_slice(&self.values, &self.shape())
    }

    /// The places of the `n` largest numbers by size without sign, largest first. Numbers that are not numbers come last.
    pub fn largest(&self, n: usize) -> Vec<(Vec<usize>, f32)> {
        let size = |i: &usize| if self.values[*i].is_nan() { -1.0 } else { self.values[*i].abs() };
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_by(|a, b| size(b).total_cmp(&size(a)));
        order.into_iter().take(n).map(|i| (self.place(i), self.values[i])).collect()
    }

    /// The place of an element by its number in row-major order.
    pub fn place(&self, mut flat: usize) -> Vec<usize> {
        let mut place: Vec<usize> = self.axes.iter().rev().map(|a| (flat % a.len(), flat /= a.len()).0).collect();
        place.reverse();
        place
    }
}

impl fmt::Display for Grid {
    /// Two axes as a table, one as a line a place, more as the twenty largest numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.axes.as_slice() {
            [axis] => {
                let width = axis.labels.iter().map(|l| l.chars().count()).max().unwrap_or(0);
                axis.labels.iter().zip(&self.values).try_for_each(|(l, v)| writeln!(f, "{l:>width$}  {v:>9.4}"))
            }
            [rows, columns] => {
                let head = rows.labels.iter().map(|l| l.chars().count()).chain([rows.name.chars().count()]).max();
                let head = head.unwrap_or(0);
                let wide = columns.labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(8);
                write!(f, "{:>head$}", rows.name)?;
                columns.labels.iter().try_for_each(|l| write!(f, " {l:>wide$}"))?;
                writeln!(f)?;
                for (r, label) in rows.labels.iter().enumerate() {
                    write!(f, "{label:>head$}")?;
                    (0..columns.len()).try_for_each(|c| write!(f, " {:>wide$.4}", self.at(&[r, c])))?;
                    writeln!(f)?;
                }
                Ok(())
            }
            _ => self.largest(20).into_iter().try_for_each(|(place, value)| {
                let named = place.iter().zip(&self.axes).map(|(p, a)| format!("{} {}", a.name, a.labels[*p]));
                writeln!(f, "{value:>9.4}  {}", named.collect::<Vec<_>>().join(", "))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_values_agree() {
        let grid = Grid::new(vec![Axis::counted("layer", 2), Axis::counted("head", 3)], vec![0., 1., 2., -9., 4., 5.])
            .unwrap();
        assert_eq!(grid.at(&[1, 0]), -9.0);
        assert_eq!(grid.place(3), [1, 0]);
        assert_eq!(grid.largest(2), [(vec![1, 0], -9.0), (vec![1, 2], 5.0)]);
        assert_eq!(grid.to_string().lines().count(), 3);
        assert!(Grid::new(vec![Axis::counted("layer", 2)], vec![0.0]).unwrap_err().message().contains("[2]"));
    }
}
