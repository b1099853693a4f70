//! Episodes and evaluations over a chat model: the same samples, tools, limits and rewards as over a model of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imagent_algorithms::TrainError;
use imagent_core::chat::{CallStyle, ChatAgent, ChatError, ChatModel, ChatReply, ChatRequest, side_by_side};
use imagent_core::{
    Arguments, EncodeError, Group, ImageShelf, Observation, RgbImage, RolloutRequest, Sample, SampleSource,
    ScoredTrajectory, Size, Tool, ToolError, ToolSpec, Toolbox, Trajectory,
};
use imagent_models::image_processor::ImageProcessor;

use crate::bench::Player;
use crate::config::{Calls, Config, EndpointConfig};
use crate::error::Error;
use crate::experiment::{Evaluation, eval_request};

/// Samples that are read at once, for each request under way.
const AHEAD: usize = 4;

/// A chat model with the tools and rewards of a config.
pub struct ServedExperiment<'a> {
    /// Who is asked.
    pub model: &'a dyn ChatModel,
    /// How.
    pub endpoint: EndpointConfig,
    /// How images are sent.
    pub view: ImageProcessor,
    /// Tools, reward, limits, prompt, sampling.
    pub config: Config,
}

impl ServedExperiment<'_> {
    /// Rolls out and grades all samples; `watch(done, all)` is told after each part.
    ///
    /// # Errors
    /// A sample that cannot be read, or a model that cannot be asked.
    pub fn evaluate(
        &self,
        source: &dyn SampleSource,
        watch: &mut dyn FnMut(usize, usize),
    ) -> Result<Evaluation, Error> {
        let positions: Vec<usize> = (0..source.len()).collect();
        let mut groups = Vec::with_capacity(positions.len());
        for part in positions.chunks(AHEAD * self.endpoint.at_once.max(1)) {
            let get = |&position: &usize| {
                let failed = |source| Error::Train(TrainError::Sample { position, source });
                source.get(position).map_err(failed)
            };
            let samples = part.iter().map(get).collect::<Result<Vec<_>, _>>()?;
            let trajectories = self.play(&samples)?;
            let graded = samples.into_iter().zip(trajectories);
            groups.extend(graded.map(|(sample, group)| Group::grade(sample, group, &*self.config.reward)));
            watch(groups.len(), positions.len());
        }
        Ok(Evaluation::of(groups))
    }

    /// The episode that an evaluation has of a sample, graded.
    ///
    /// # Errors
    /// When the model cannot be asked.
    pub fn episode(&self, sample: &Arc<Sample>) -> Result<Option<ScoredTrajectory>, Error> {
        let played = self.play(&[Arc::clone(sample)])?.into_iter().flatten().next();
        Ok(played.map(|trajectory| ScoredTrajectory::grade(trajectory, &*self.config.reward)))
    }

    fn play(&self, samples: &[Arc<Sample>]) -> Result<Vec<Vec<Trajectory>>, Error> {
        let request = eval_request(&self.config.settings(), &self.config.train.eval_sampling);
        Ok(roll((self.model, &self.endpoint), &self.view, &self.config.tools, samples, &request)?)
    }
}

/// Episodes over a chat model that is asked as its endpoint says.
///
/// # Errors
/// When the model cannot be asked.
pub fn roll(
    (model, endpoint): (&dyn ChatModel, &EndpointConfig),
    view: &ImageProcessor,
    tools: &Vec<Box<dyn Tool>>,
    samples: &[Arc<Sample>],
    request: &RolloutRequest,
) -> Result<Vec<Vec<Trajectory>>, ChatError> {
    let view = |image: &Arc<RgbImage>| sent(view, image);
    let (logprobs, at_once) = (endpoint.logprobs, endpoint.at_once);
    let agent = |model, calls| ChatAgent { model, view: &view, calls, logprobs, at_once };
    match endpoint.calls {
        Calls::Text => agent(model, CallStyle::Text).rollout(tools, samples, request),
        Calls::Api => agent(model, CallStyle::Api).rollout(tools, samples, request),
        Calls::Template => {
            let told = Told { model, tools: tools.specs() };
            agent(&told, CallStyle::Text).rollout(&Untold(tools), samples, request)
        }
    }
}

/// An image as it is sent to a model of this processor, and the size at which it is shown: that size, if the server leaves it as it
/// is; else the image itself, which the server makes as large. With narrow limits nearly every size would be changed again.
fn sent(view: &ImageProcessor, image: &Arc<RgbImage>) -> Result<(Arc<RgbImage>, Size), EncodeError> {
    let small = shown(view, image)?;
    let (width, height) = small.dimensions();
    let stays = view.shown_size(width, height).is_ok_and(|again| again == (width, height));
    Ok((if stays { Arc::new(small) } else { Arc::clone(image) }, Size::new(width, height)))
}

/// An image as a model of this processor is shown it.
pub(crate) fn shown(view: &ImageProcessor, image: &RgbImage) -> Result<RgbImage, EncodeError> {
    let refused = |error: imagent_models::error::ModelError| EncodeError::Image {
        size: Size::new(image.width(), image.height()),
        reason: error.to_string(),
    };
    view.resize(image).map_err(refused)
}

impl Player for ServedExperiment<'_> {
    fn episodes(&mut self, samples: &[Arc<Sample>]) -> Vec<Result<Trajectory, Error>> {
        let request = eval_request(&self.config.settings(), &self.config.train.eval_sampling);
        let (asked, view, tools) = ((self.model, &self.endpoint), &self.view, &self.config.tools);
        let answered = AtomicBool::new(false);
        // What one sample is refused others may be granted; where none is answered, no other is asked.
        let play = |i: usize| match roll(asked, view, tools, &samples[i..=i], &request) {
            Ok(groups) => {
                answered.store(true, Ordering::Relaxed);
                Ok(Ok(groups.into_iter().flatten().next()))
            }
            Err(ChatError::Failed(problem)) if answered.load(Ordering::Relaxed) => {
                Ok(Err(ChatError::Failed(format!("sample {:?}: {problem}", samples[i].id))))
            }
            Err(error) => Err(error),
        };
        let none = || ChatError::Failed("no episode was played".to_owned());
        let played = side_by_side(samples.len(), self.endpoint.at_once, play);
        played.into_iter().map(|played| Ok(played.flatten()?.ok_or_else(none)?)).collect()
    }
}

/// Tools that the prompt does not describe.
struct Untold<'a>(&'a Vec<Box<dyn Tool>>);

impl Toolbox for Untold<'_> {
    fn specs(&self) -> Vec<ToolSpec> {
        Vec::new()
    }
    fn call(&self, name: &str, arguments: &Arguments, images: &ImageShelf) -> Option<Result<Observation, ToolError>> {
        self.0.call(name, arguments, images)
    }
}

/// A model that every question tells of the same tools.
struct Told<'a> {
    model: &'a dyn ChatModel,
    tools: Vec<ToolSpec>,
}

impl ChatModel for Told<'_> {
    fn name(&self) -> &str {
        self.model.name()
    }
    fn ask(&self, request: &ChatRequest) -> Result<ChatReply, ChatError> {
        self.model.ask(&ChatRequest { tools: self.tools.clone(), ..request.clone() })
    }
}
