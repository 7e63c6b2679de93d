//! Pages from results; no computing.

mod lens_page;

pub use lens_page::lens_page;
