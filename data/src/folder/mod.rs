//! The dataset folder: `samples.jsonl` and image files.
//!
//! A line of `samples.jsonl` is one sample:
//!
//! ```json
//! {"id": "a-1", "images": ["images/1.png"], "question": "What digit … ?", "answer": "3",
//!  "meta": {"kind": "read", "zooms_needed": 1, "gold": [{"image": 1, "bbox": [27, 58, 37, 72]}], "source": "mine"}}
//! ```
//!
//! Image paths are relative to the folder and never lead out of it. `meta` and all of its keys are optional: `kind`
//! (default `question`), `zooms_needed`, `gold` (images counted from 1, boxes `[x1, y1, x2, y2]` in pixels of the
//! upright image) are known, whatever else it holds is kept. Any other key at the top level is an error. Blank lines
//! are skipped.
//!
//! * `rows`: a line to a row, checked;
//! * [`decode`]: a file to pixels, within limits; `cache`: the last used ones;
//! * [`open`]: a folder as a source of samples;
//! * [`mod@write`]: samples to a folder;
//! * [`mod@synth`]: a folder of the nano world.
//!
//! Everything that is wrong with a folder, not only the first thing, is what [`crate::formats::survey()`] tells.

pub(crate) mod cache;
pub mod decode;
pub mod open;
pub(crate) mod rows;
pub mod synth;
#[cfg(test)]
mod tests;
pub mod write;

pub use open::{CACHE_MIB, Folder};
pub use rows::SAMPLES;
pub use synth::{GENERATOR, SynthConfig, ensure_synth, synth};
pub use write::{Summary, write_folder, write_rows};
