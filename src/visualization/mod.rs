//! Pages and figures from results; no computing.

mod attribution;
mod graph;
mod grids;
mod lens_page;
mod lines;
mod patchscope;
mod patterns;
mod style;

pub use attribution::attribution_figure;
pub use graph::{GraphEdge, GraphNode, graph};
pub use grids::{bars, heatmap, heatmap_up_to};
pub use lens_page::{lens_figure, lens_page};
pub use lines::lines;
pub use patchscope::patchscope_figure;
pub use patterns::patterns;
pub use style::page;
