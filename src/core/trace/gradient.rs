//! How a metric changes with the values of sites: gradients without backward hooks.
//!
//! Every site gets a zero added to it, in execution order, and the metric is differentiated with respect to the zeros.
//! So one pass gives the total gradient at all sites, however one depends on another, and what the trace was changed by
//! is part of it.

use std::sync::Arc;

use super::{Change, Trace};
use crate::core::intervention::Intervention;
use crate::core::model::Target;
use crate::core::tensor::{self, Array, Dtype};
use crate::error::{Result, bail};

/// A metric, and at each site its value and the metric's gradient there. All lazy.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// Names of the sites, in the order asked for; a pattern gives all it matches.
    pub sites: Vec<String>,
    /// What the metric gave: a scalar, or a number a row.
    pub metric: Array,
    /// Each site's value.
    pub values: Vec<Array>,
    /// The gradient at each site, in the value's shape and dtype.
    pub gradients: Vec<Array>,
}

impl Trace {
    /// The gradients of `metric` at sites or patterns. The metric gets a fork of this trace, from which it may read and
    /// to which it may write, and gives a scalar or a number a row; as rows do not see each other, each row's gradient is
    /// that of its own number. Nothing is computed.
    ///
    /// Through packed weights too: they are constants. A value written in a site's place is a constant, behind which
    /// gradients end. Errors: a site that holds no floating-point numbers, a metric of several numbers a row.
    pub fn gradients<S: AsRef<str>>(
        &self,
        sites: &[S],
        mut metric: impl FnMut(&Trace) -> Result<Array>,
    ) -> Result<Gradients> {
        let places = self.places(sites)?;
        let rows = self.batch()?.len();
        let shapes = self.fork()?;
        let zeros = places.iter().map(|(name, slot)| shapes.zeros_at(name, *slot)).collect::<Result<Vec<_>>>()?;
        // In execution order: what is added at one site is seen by the next.
        let inner = self.0.model.clone();
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|i| inner.uses.place(inner.slot(places[*i].1)));
        let mut seen = None;
        let (_, gradients) = tensor::value_and_gradients(&zeros, |added| {
            let fork = self.fork()?;
            for i in &order {
                let add = Intervention::add_vector(added[*i].clone(), 1.0);
                fork.edit(Target::Site(places[*i].1), Change::Intervention(Arc::new(add)))?;
            }
            let values = places.iter().map(|(_, site)| fork.peek(*site)).collect::<Result<Vec<_>>>()?;
            let value = metric(&fork)?;
            if value.ndim() > 1 || (value.ndim() == 1 && value.dim(0) != rows) {
                bail!(
                    Shape,
                    "the metric gave an array of shape {:?}: it must be a scalar or have one number for each of the {rows} \
                     rows",
                    value.shape()
                );
            }
            seen = Some((values, value.clone()));
            Ok(value)
        })?;
        let Some((values, metric)) = seen else { bail!(Backend, "the metric was not called") };
        Ok(Gradients { sites: places.into_iter().map(|(name, _)| name).collect(), metric, values, gradients })
    }

    /// Names and numbers of the sites that names or patterns mean.
    fn places<S: AsRef<str>>(&self, sites: &[S]) -> Result<Vec<(String, usize)>> {
        let mut places = Vec::new();
        for pattern in sites {
            for target in self.0.model.sites.targets(pattern.as_ref())? {
                let Target::Site(site) = target else {
                    bail!(
                        Unsupported,
                        "'{}': gradients at a single expert; ask for the whole module's",
                        pattern.as_ref()
                    );
                };
                places.push((self.0.model.slot_name(self.0.model.slot(site)), site));
            }
        }
        if places.is_empty() {
            bail!(InvalidArgument, "gradients at no sites: name at least one");
        }
        Ok(places)
    }

    fn peek(&self, site: usize) -> Result<Array> {
        self.value_of(self.0.model.slot(site))
    }

    fn zeros_at(&self, name: &str, site: usize) -> Result<Array> {
        let value = self.peek(site)?;
        if !matches!(value.dtype(), Dtype::Float16 | Dtype::Bfloat16 | Dtype::Float32) {
            bail!(InvalidArgument, "'{name}' holds {} numbers: there is no gradient of those", value.dtype());
        }
        tensor::zeros_like(&value)
    }
}
