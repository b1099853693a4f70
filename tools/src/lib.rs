//! The visual tools: images in, observations out. A tool never sees a reward, a token or the gold answer.
//!
//! | tag | tool | what the model gets |
//! |---|---|---|
//! | `look_back` | [`LookBack`] | an image of the shelf once more (*visual reflection*) |
//! | `zoom_in` | [`ZoomIn`] | a region of an image, cut from its original pixels (*visual confirmation*) |
//!
//! Each is a plug-in in a file of its own. Compose them at compile time as `(ZoomIn::default(), LookBack::default())`,
//! or name them in a config as `{ type = "zoom_in" }`; a binary has to name this crate (`use imagent_tools as _;`)
//! for the second way to find them.

mod arguments;
mod look_back;
mod zoom_in;

pub use crate::look_back::LookBack;
pub use crate::zoom_in::{BoxFrame, ZoomIn};

/// The tags of all tools of this crate, sorted.
pub const PLUGINS: &[&str] = &["look_back", "zoom_in"];
