//! Eight actions as tokens, and the encoder: a prompt is a token for its text and one for each image.

use std::sync::Arc;

use imagent::prelude::*;

use crate::world::{SIDE, SQUARE};

/// How many actions there are: `zoom_in` at four corners, four answers. An action is a token and a whole turn.
pub const ACTIONS: usize = 8;
/// Whatever is said to the policy in words.
const TEXT: u32 = 8;
/// An image.
const IMAGE: u32 = 9;

/// The encoder of the policy's tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words;

/// What an action says.
fn words(action: u32) -> Option<String> {
    let far = SIDE - SQUARE;
    let (x, y) = match action {
        0 => (0, 0),
        1 => (far, 0),
        2 => (0, far),
        3 => (far, far),
        4..8 => return Some(format!("<answer>{}</answer>", action - 4)),
        _ => return None,
    };
    let bbox = format!("[{x}, {y}, {}, {}]", x + SQUARE, y + SQUARE);
    Some(format!(r#"<tool_call>{{"name": "zoom_in", "arguments": {{"image": 1, "bbox_2d": {bbox}}}}}</tool_call>"#))
}

fn segment<'a>(images: impl Iterator<Item = &'a Arc<RgbImage>>) -> Segment {
    let mut segment = Segment { ids: vec![TEXT], images: Vec::new() };
    for pixels in images {
        let (start, shown) = (segment.ids.len(), Size::new(pixels.width(), pixels.height()));
        segment.ids.push(IMAGE);
        segment.images.push(SegmentImage { start, rows: 1, columns: 1, pixels: Arc::clone(pixels), shown });
    }
    segment
}

impl Encoder for Words {
    fn prompt(&self, _: &[Message], _: &[ToolSpec], images: &[Arc<RgbImage>]) -> Result<Segment, EncodeError> {
        Ok(segment(images.iter()))
    }

    fn observation(&self, observation: &Observation, _turn_closed: bool) -> Result<Segment, EncodeError> {
        Ok(segment(observation.images.iter().map(|image| &image.pixels)))
    }

    fn scripted_turn(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let action = (0..ACTIONS as u32).find(|&action| words(action).as_deref() == Some(text));
        action.map(|action| vec![action]).ok_or_else(|| EncodeError::Tokenizer(format!("no action says {text:?}")))
    }

    fn decode(&self, ids: &[u32]) -> String {
        ids.iter().filter_map(|&id| words(id)).collect()
    }

    fn shown_size(&self, original: Size) -> Result<Size, EncodeError> {
        Ok(original)
    }
}
