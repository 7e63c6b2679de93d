//! Pages and figures from results; no computing.

mod attribution;
mod graph;
mod grids;
mod lens_page;
mod patterns;
mod style;

pub use attribution::attribution_figure;
pub use graph::{GraphEdge, GraphNode, graph};
pub use grids::{bars, heatmap};
pub use lens_page::{lens_figure, lens_page};
pub use patterns::patterns;
pub use style::page;
