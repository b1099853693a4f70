//! The visual tools: images in, observations out. A tool never sees a reward, a token or the gold answer.
//!
//! | tag | tool | what the model gets |
//! |---|---|---|
//! | `compare` | [`Compare`] | two regions of any images side by side |
//! | `contrast` | [`Contrast`] | an image with more or less contrast |
//! | `flip` | [`Flip`] | an image mirrored |
//! | `look_back` | [`LookBack`] | an image of the shelf once more (*visual reflection*) |
//! | `mark` | [`Mark`] | an image with a box drawn on it |
//! | `rotate` | [`Rotate`] | an image turned by an angle |
//! | `withheld` | [`Withheld`] | nothing: a grey image where another tool would show something (a control) |
//! | `zoom_in` | [`ZoomIn`] | a region of an image, cut from its original pixels (*visual confirmation*) |
//!
//! Every tool takes any image of the shelf, those of observations included, and its picture joins the shelf. Where it
//! shows one axis-aligned region of its source, its origin says which and how it lies there; else it has none.
//!
//! Each is a plug-in in a file of its own. Compose them at compile time as `(ZoomIn::default(), LookBack::default())`,
//! or name them in a config as `{ type = "zoom_in" }`; a binary has to name this crate (`use imagent_tools as _;`)
//! for the second way to find them. What they share: `arguments` (reading what the model wrote), `region` (boxes to whole
//! pixels), `picture` (resizing, observations).

mod arguments;
mod compare;
mod contrast;
mod flip;
mod look_back;
mod mark;
mod picture;
mod region;
mod rotate;
mod withheld;
mod zoom_in;

pub use crate::compare::Compare;
pub use crate::contrast::Contrast;
pub use crate::flip::Flip;
pub use crate::look_back::LookBack;
pub use crate::mark::Mark;
pub use crate::rotate::Rotate;
pub use crate::withheld::Withheld;
pub use crate::zoom_in::ZoomIn;
pub use imagent_core::BoxFrame;

/// The tags of all tools of this crate, sorted.
pub const PLUGINS: &[&str] = &["compare", "contrast", "flip", "look_back", "mark", "rotate", "withheld", "zoom_in"];
