//! A checkpoint's tokenizer, chat template and image processor as the core's [`Encoder`].

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use imagent_core::{
    Content, EncodeError, Encoder, Message, Observation, ObservationImage, Role, Segment, SegmentImage, Size, ToolSpec,
};
use serde_json::{Value as Json, json};

use crate::chat_template::{ChatTemplate, RenderOptions, expand_image_pads};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::image_processor::{ImageProcessor, Patches};
use crate::patch_cache::PatchCache;
use crate::tokenizer::Tokenizer;

/// Stands in for a turn's text where only what follows it is wanted.
const TURN: &str = "\u{2402}turn\u{2403}";

/// Tokenizer, chat template and image processor of one checkpoint.
#[derive(Debug)]
pub struct Codec {
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Messages to text.
    pub template: ChatTemplate,
    /// Images to patches.
    pub processor: ImageProcessor,
    template_knows_tools: bool,
    patches: PatchCache,
}

impl Codec {
    /// Reads them from a checkpoint folder.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn open(dir: &Path) -> Result<Self> {
        let template = ChatTemplate::open(dir)?;
        let template_knows_tools = knows_tools(&template)?;
        Ok(Self {
            tokenizer: Tokenizer::open(dir)?,
            template,
            processor: ImageProcessor::open(dir)?,
            template_knows_tools,
            patches: PatchCache::default(),
        })
    }

    /// Checks that tokenizer and image processor, read from `dir`, are those of the configured model.
    ///
    /// # Errors
    /// `Config` naming the file, and the token or field that disagrees.
    pub fn check(&self, config: &Config, dir: &Path) -> Result<()> {
        self.tokenizer.check(config, &dir.join("tokenizer.json"))?;
        let (own, model) = (&self.processor, &config.vision);
        for (field, got, wanted) in [
            ("patch_size", own.patch_size, model.patch_size),
            ("merge_size", own.merge_size, model.spatial_merge_size),
            ("temporal_patch_size", own.temporal_patch_size, model.temporal_patch_size),
        ] {
            if got as usize != wanted {
                return Err(ModelError::Config {
                    file: dir.join("preprocessor_config.json").display().to_string(),
                    field: field.into(),
                    expected: format!("{wanted}, as config.json's vision_config says"),
                    got: got.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Tokens of a rendered text whose `<|image_pad|>`s stand for `images`, in order.
    pub fn segment(&self, text: &str, images: &[Arc<RgbImage>]) -> Result<Segment> {
        let ids = self.tokenizer.encode(text)?;
        let merge = self.processor.merge_size as usize;
        let mut placed = Vec::with_capacity(images.len());
        for pixels in images {
            let grid = self.processor.grid(pixels.width(), pixels.height())?;
            let (width, height) = self.processor.shown_size(pixels.width(), pixels.height())?;
            let (rows, columns) = (grid.h / merge, grid.w / merge);
            let pixels = Arc::clone(pixels);
            placed.push(SegmentImage { start: 0, rows, columns, pixels, shown: Size::new(width, height) });
        }
        let tokens: Vec<usize> = placed.iter().map(SegmentImage::tokens).collect();
        let (ids, starts) = expand_image_pads(&ids, self.tokenizer.special().image_pad, &tokens)?;
        placed.iter_mut().zip(starts).for_each(|(image, start)| image.start = start);
        Ok(Segment { ids, images: placed })
    }

    /// What the tower reads of images: kept since they were seen last, or made in parallel.
    ///
    /// # Errors
    /// When an image cannot be shown to the model.
    pub fn patches(&self, images: &[Arc<RgbImage>]) -> Result<Vec<Arc<Patches>>> {
        self.patches.of(&self.processor, images)
    }

    /// Renders messages through the template.
    pub fn render(&self, messages: &[Message], tools: &[ToolSpec], generate: bool) -> Result<String> {
        let mut messages: Vec<Json> = messages.iter().map(message_json).collect();
        let specs: Vec<Json> = tools.iter().map(|tool| json!({"type": "function", "function": tool})).collect();
        if !specs.is_empty() && !self.template_knows_tools {
            describe_tools(&mut messages, &specs)?;
        }
        let tools = (!specs.is_empty() && self.template_knows_tools).then_some(specs.as_slice());
        let options = RenderOptions { tools, add_generation_prompt: generate, ..RenderOptions::default() };
        self.template.render(&messages, &options)
    }

    /// What the template puts between the text of a turn and the next turn, when `message` comes between.
    fn after_turn(&self, message: Message) -> Result<String> {
        let chat = [Message::text(Role::User, "?"), Message::text(Role::Assistant, TURN), message];
        let text = self.render(&chat, &[], true)?;
        let (_, rest) = text.split_once(TURN).ok_or_else(|| ModelError::Template {
            op: "observation",
            message: "the template drops the assistant's text".into(),
        })?;
        Ok(rest.to_owned())
    }

    fn observation_segment(&self, observation: &Observation, turn_closed: bool) -> Result<Segment> {
        let mut content = vec![Content::text(format!("<tool_response>{}", observation.text))];
        content.extend(observation.images.iter().map(|_| Content::Image));
        content.push(Content::text("</tool_response>"));
        let rest = self.after_turn(Message { role: Role::User, content })?;
        let end = "<|im_end|>";
        let rest = if turn_closed { rest.strip_prefix(end).unwrap_or(&rest) } else { &rest };
        let images: Vec<Arc<RgbImage>> =
            observation.images.iter().map(|ObservationImage { pixels, .. }| Arc::clone(pixels)).collect();
        self.segment(rest, &images)
    }
}

impl Encoder for Codec {
    fn prompt(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        images: &[Arc<RgbImage>],
    ) -> std::result::Result<Segment, EncodeError> {
        let text = self.render(messages, tools, true).map_err(encode_error)?;
        self.segment(&text, images).map_err(encode_error)
    }

    fn observation(&self, observation: &Observation, turn_closed: bool) -> std::result::Result<Segment, EncodeError> {
        self.observation_segment(observation, turn_closed).map_err(encode_error)
    }

    fn scripted_turn(&self, text: &str) -> std::result::Result<Vec<u32>, EncodeError> {
        let mut ids = self.tokenizer.encode(text).map_err(encode_error)?;
        ids.push(self.tokenizer.special().im_end);
        Ok(ids)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    fn prepare(&self, images: &[Arc<RgbImage>]) {
        self.patches.prepare(&self.processor, images);
    }

    fn shown_size(&self, original: Size) -> std::result::Result<Size, EncodeError> {
        let shown = self.processor.shown_size(original.width, original.height);
        let (width, height) =
            shown.map_err(|error| EncodeError::Image { size: original, reason: error.to_string() })?;
        Ok(Size::new(width, height))
    }
}

fn encode_error(error: ModelError) -> EncodeError {
    match error {
        ModelError::ImageCount { pads, images } => EncodeError::ImageCount { placeholders: pads, images },
        ModelError::Tokenizer { .. } => EncodeError::Tokenizer(error.to_string()),
        other => EncodeError::Template(other.to_string()),
    }
}

/// Whether the template mentions tools that it is given.
fn knows_tools(template: &ChatTemplate) -> Result<bool> {
    let probe = "imagent_probe";
    let tool = json!({"type": "function", "function": {"name": probe, "description": "", "parameters": {}}});
    let tools = [tool];
    let options = RenderOptions { tools: Some(&tools), ..RenderOptions::default() };
    Ok(template.render(&[json!({"role": "user", "content": "?"})], &options)?.contains(probe))
}

fn message_json(message: &Message) -> Json {
    let piece = |content: &Content| match content {
        Content::Text { text } => json!({"type": "text", "text": text}),
        Content::Image => json!({"type": "image"}),
    };
    json!({"role": message.role, "content": message.content.iter().map(piece).collect::<Vec<_>>()})
}

/// Qwen2.5's own description of tools, for templates that have none.
const TOOLS: &str = "

# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n' }}</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{ '{\"name\": <function-name>, \"arguments\": <args-json-object>}' }}
</tool_call>";

/// Puts the description of tools into the system message.
fn describe_tools(messages: &mut Vec<Json>, specs: &[Json]) -> Result<()> {
    let options = RenderOptions { tools: Some(specs), ..RenderOptions::default() };
    let text = ChatTemplate::new(TOOLS)?.render(&[], &options)?;
    match messages.first_mut().filter(|message| message["role"] == "system") {
        Some(system) => {
            if let Some(content) = system["content"].as_array_mut() {
                content.push(json!({"type": "text", "text": text}));
            }
        }
        None => {
            let text = format!("You are a helpful assistant.{text}");
            messages.insert(0, json!({"role": "system", "content": [{"type": "text", "text": text}]}));
        }
    }
    Ok(())
}
