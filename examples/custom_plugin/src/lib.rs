//! A tool, a reward and a policy optimiser in a crate of their own: a file each, found by their tags in a config.

mod margin_zoom;
mod price;
mod vanilla;

pub use crate::margin_zoom::MarginZoom;
pub use crate::price::Price;
pub use crate::vanilla::Vanilla;
