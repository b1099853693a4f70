//! A sample to tokens: its conversation, or the trajectory that its annotation makes, in the words and tokens of a rollout.

use std::ops::Range;
use std::sync::Arc;

use imagent_core::conversation::CONVERSATION;
use imagent_core::{
    Asked, Content, Encoder, Message, PromptStyle, RgbImage, Role, Sample, Segment, Size, ToolSpec, Toolbox, Turn,
};
use imagent_data::annotate::{Teller, Wording};
use imagent_models::codec::Codec;
use imagent_models::qwen::positions::GridSpan;
use imagent_models::qwen::{Sequence, SequenceImage, Target};
use serde::Deserialize;

use super::config::SftConfig;
use crate::error::Error;

/// The keys of a sample's `meta` that hold the frame of its conversation's boxes, and the sizes that they are for.
const BOX_FRAME: &str = "box_frame";
const SHOWN: &str = "shown";

/// A conversation to train on.
#[derive(Clone, Debug)]
pub struct Example {
    /// Tokens and images.
    pub segment: Segment,
    /// Positions that are taught.
    pub taught: Vec<Range<usize>>,
}

/// Why a sample is not trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It has more tokens than allowed.
    TooLong,
    /// Its annotation makes no trajectory; the name of the reason.
    Rejected(&'static str),
}

/// Makes examples.
pub struct Examples<'a> {
    codec: &'a Codec,
    prompt: Option<PromptStyle>,
    tools: Vec<ToolSpec>,
    wording: Option<Wording>,
    config: &'a SftConfig,
}

impl<'a> Examples<'a> {
    /// Examples in the words of `config` and the tokens of `codec`.
    ///
    /// # Errors
    /// When the wording cannot be read.
    pub fn new(codec: &'a Codec, config: &'a SftConfig) -> Result<Self, Error> {
        let wording = config.trajectories.as_ref().map(|trajectories| trajectories.open()).transpose();
        let wording = wording.map_err(|problem| Error::BadTrajectory { id: "trajectories.wording".into(), problem })?;
        // A trajectory has no first turn of its own.
        let prompt = config.prompt.clone().or(wording.is_some().then(PromptStyle::default));
        Ok(Self { codec, prompt, tools: config.tools.specs(), wording, config })
    }

    /// The example of a sample, or why there is none.
    ///
    /// # Errors
    /// Names the sample that is wrong.
    pub fn of(&self, sample: &Sample) -> Result<Result<Example, LeftOut>, Error> {
        let bad = |problem: String| Error::BadTrajectory { id: sample.id.clone(), problem };
        let (messages, images) = match &self.wording {
            Some(wording) => match self.told(wording, sample) {
                Ok(text) => {
                    let mut messages = self.prompt.clone().unwrap_or_default().messages(sample);
                    messages.push(Message::text(Role::Assistant, text));
                    (messages, sample.images.clone())
                }
                Err(reason) => return Ok(Err(LeftOut::Rejected(reason))),
            },
            None => self.stored(sample).map_err(bad)?,
        };
        let said = self.codec.conversation(&messages, &self.tools, &images);
        let said = said.map_err(|error| bad(error.to_string()))?;
        let fits = said.segment.ids.len() <= self.config.sft.max_tokens;
        let example = Example { segment: said.segment, taught: said.taught };
        Ok(if fits { Ok(example) } else { Err(LeftOut::TooLong) })
    }

    fn told(&self, wording: &Wording, sample: &Sample) -> Result<String, &'static str> {
        let frame = self.config.trajectories.as_ref().map(|trajectories| trajectories.frame).unwrap_or_default();
        let shown = |size: Size| self.codec.shown_size(size).ok();
        let teller = Teller { wording, frame, shown: &shown, seed: self.config.seed };
        teller.tell(sample).map(|told| told.text).map_err(|reject| reject.name())
    }

    /// The stored conversation as messages, with its images.
    fn stored(&self, sample: &Sample) -> Result<(Vec<Message>, Vec<Arc<RgbImage>>), String> {
        let value = sample.meta.get(CONVERSATION);
        let value = value.ok_or("it has no `meta.conversation`; set `[trajectories]` to make one of its annotation")?;
        let in_meta = |problem: String| format!("`meta.{CONVERSATION}`: {problem}");
        let turns = Vec::<Turn>::deserialize(value).map_err(|error| in_meta(error.to_string()))?;
        let all: Vec<Arc<RgbImage>> = sample.all_images().cloned().collect();
        let asked = Asked::of(&turns, all.len()).map_err(in_meta)?;
        let turns = asked.taught(&turns).map_err(in_meta)?;
        let Asked { turn, images } = asked;
        let marked = |turns: &[Turn]| turns.iter().map(Turn::images).sum::<usize>();
        let shown = &all[..if marked(turns) == 0 { images } else { marked(turns) }];
        self.check_sizes(sample, shown)?;
        let mut messages: Vec<Message> = turns.iter().map(Turn::message).collect();
        match &self.prompt {
            Some(style) => {
                let question = Sample { images: all[..images].to_vec(), ..sample.clone() };
                let mut asked = style.messages_after(&question, marked(&turns[..turn]));
                let system = (!style.system.is_empty()).then(|| asked.remove(0));
                messages.splice(turn..=turn, asked);
                system.map_or(Ok(()), |system| set_system(&mut messages, system)).map_err(in_meta)?;
            }
            // Images without a mark come before the question, as the published conversations have it.
            None if marked(turns) == 0 => {
                messages[turn].content.splice(0..0, std::iter::repeat_n(Content::Image, images));
            }
            None => {}
        }
        Ok((messages, shown.to_vec()))
    }

    /// Whether boxes in pixels as shown are in the pixels of these images that this model is shown.
    fn check_sizes(&self, sample: &Sample, images: &[Arc<RgbImage>]) -> Result<(), String> {
        if sample.meta.get(BOX_FRAME).and_then(|frame| frame.as_str()) != Some("shown") {
            return Ok(());
        }
        let stored = sample.meta.get(SHOWN).map(Vec::<[u32; 2]>::deserialize);
        let Some(Ok(stored)) = stored else { return Err(format!("`meta.{SHOWN}` is not a list of sizes")) };
        let shown = |image: &Arc<RgbImage>| {
            let size = self.codec.shown_size(Size::new(image.width(), image.height()));
            size.map(|size| [size.width, size.height]).map_err(|error| error.to_string())
        };
        let own: Vec<[u32; 2]> = images.iter().map(shown).collect::<Result<_, _>>()?;
        if stored.starts_with(&own) {
            return Ok(());
        }
        Err(format!(
            "its boxes are for images shown at {stored:?}, this model is shown {own:?}; annotate it for this model"
        ))
    }
}

/// Puts a message of the system in front, in place of one that stands there.
fn set_system(messages: &mut Vec<Message>, system: Message) -> Result<(), String> {
    match messages.first_mut().filter(|first| first.role == Role::System) {
        Some(first) if first.content.contains(&Content::Image) => {
            return Err("`prompt.system` would take the place of a system's turn with an image".to_owned());
        }
        Some(first) => *first = system,
        None => messages.insert(0, system),
    }
    Ok(())
}

impl Example {
    /// The sequence to train on: of what is taught, every token, out of the whole vocabulary.
    pub fn sequence(&self) -> Sequence<'_> {
        let images = self.segment.images.iter().map(|image| SequenceImage {
            span: GridSpan { start: image.start, rows: image.rows, columns: image.columns },
            pixels: Arc::clone(&image.pixels),
        });
        let ids = &self.segment.ids;
        let target = |p: usize| Target { row: p - 1, id: ids[p], suppress: false };
        let targets = self.taught.iter().flat_map(|range| range.clone().map(target)).collect();
        Sequence { ids, images: images.collect(), prompt_len: 0, targets }
    }
}
