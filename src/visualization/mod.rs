//! Pages and figures from results; no computing.

mod graph;
mod grids;
mod lens_page;
mod style;

pub use graph::{GraphEdge, GraphNode, graph};
pub use grids::{bars, heatmap};
pub use lens_page::lens_page;
pub use style::page;
