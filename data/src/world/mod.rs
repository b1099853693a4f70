//! The nano world: 448×448 images of coloured shapes, each with one small white digit, and questions about them.
//!
//! At the size the model is shown (112×112) colours and shapes can be told apart but digits cannot be read:
//! that takes a zoom. Other questions ask for an image and a box, and need none. The background carries a position cue (red grows with x,
//! blue with y). Any aspect of it can be that of a second world ([`Aspect`]), to test what a model taught in this one makes of another.
//!
//! * [`scene`]: what stands on an image, and where;
//! * [`font`]: the digits;
//! * [`mod@render`]: scenes to pixels;
//! * [`config`]: what a world is made of;
//! * [`mod@layout`]: from (config, seed, index) to scenes, question and answer;
//! * `relations`: the same for questions about a box;
//! * [`sample`]: layouts with their images, as core samples.

pub mod config;
pub mod font;
pub mod layout;
mod relations;
pub mod render;
pub mod sample;
pub mod scene;
#[cfg(test)]
mod tests;

pub use config::{Aspect, QuestionMix, WorldConfig};
pub use layout::{Across, Kind, Layout, layout};
pub use render::{Backdrop, render, render_on};
pub use sample::{WorldSample, WorldSource, generate};
pub use scene::{Colour, Object, SIDE, Scene, Shape};
