//! What is known of a slot's value before any run.

use crate::core::arch::tape::Layout;

/// Properties of a slot, as far as they can be told.
#[derive(Clone, Debug)]
pub(super) struct SlotInfo {
    pub layout: Layout,
    /// Length of the last axis.
    pub width: Option<usize>,
    /// Number of heads, for layouts that have them.
    pub heads: Option<usize>,
    /// The block whose `attend` made it.
    pub attend: Option<String>,
    /// The block whose attention result this is with its heads merged.
    pub merged: Option<String>,
    /// Its whole numbers choose among so many, all of them there.
    pub below: Option<usize>,
}

impl SlotInfo {
    pub fn of(layout: Layout) -> Self {
        SlotInfo { layout, width: None, heads: None, attend: None, merged: None, below: None }
    }

    pub fn width(mut self, width: Option<usize>) -> Self {
        self.width = width;
        self
    }

    pub fn heads(mut self, heads: Option<usize>) -> Self {
        self.heads = heads;
        self
    }

    /// The same axes, values changed.
    pub fn changed(&self) -> Self {
        SlotInfo { attend: None, merged: None, below: None, ..self.clone() }
    }
}
