//! What each agent does with one item.

use std::sync::Arc;

use imagent_core::chat::ChatError;
use imagent_core::{BBox, Gold, ImageSizes, Original, RolloutRequest, Sample, Shown, Tool, seed};
use imagent_models::image_processor::ImageProcessor;
use rand::seq::index;
use serde_json::{Map, Value};

use super::ask::{Asker, object, text};
use super::bank::{Bank, Object};
use super::claim::Prompts;
use super::config::{PipelineConfig, RoleConfig};
use super::item::{Difficulty, Group, Question, Verdict, Votes};
use super::journal::{Journal, Recorded};
use super::keep::Outcome;
use super::rules::{self, Form};
use super::{Models, Served, wrong};
use crate::error::Error;
use crate::served::evaluate::roll;

/// The first round of tries with tools: others are drawn than without.
const WITH_TOOLS: u64 = 1 << 32;

/// The agents, and what they work with.
pub(super) struct Agents<'a> {
    pub(super) config: &'a PipelineConfig,
    pub(super) bank: &'a Bank,
    pub(super) prompts: &'a Prompts,
    pub(super) models: &'a Models<'a>,
    pub(super) journal: &'a Journal,
}

impl Agents<'_> {
    /// What the served model in a role makes of an item, or `None` where a rule plays the role.
    fn served<T>(
        &self,
        name: &'static str,
        role: &RoleConfig,
        id: &str,
        act: impl FnOnce(&Asker<'_>) -> Result<Outcome<T>, Error>,
    ) -> Option<Result<Outcome<T>, Error>> {
        let prompt = self.prompts.get(name)?;
        let served = match self.models.get(&role.endpoint) {
            Ok(served) => served?,
            Err(error) => return Some(Err(error)),
        };
        let model = &Recorded::new(&*served.model, self.journal, name, id);
        let (view, bank, seed) = (&served.view, self.bank, self.config.seed);
        let made = act(&Asker { model, view, bank, role, prompt, seed, id });
        Some(made.or_else(not_shown))
    }

    fn known(&self, images: &[String]) -> Vec<&[Object]> {
        images.iter().map(|image| self.bank.objects(image)).collect()
    }

    /// Puts images together.
    pub(super) fn group(&self, id: &str) -> Result<Outcome<Group>, Error> {
        let (config, names) = (self.config, self.bank.names());
        let asked = self.served("grouper", &config.grouper, id, |asker| {
            let mut rng = seed::rng(config.seed, &[seed::text("candidates"), seed::text(id)]);
            let candidates = index::sample(&mut rng, names.len(), config.candidates.min(names.len()));
            let candidates: Vec<String> = candidates.into_iter().map(|at| names[at].clone()).collect();
            let [fewest, most] = config.size;
            let numbers = [candidates.len(), fewest, most].map(|number| number.to_string());
            let values = [("count", &*numbers[0]), ("fewest", &*numbers[1]), ("most", &*numbers[2])];
            let reply = asker.ask(&asker.see(&candidates)?, &values, 0)?;
            Ok(object(&reply).map_or_else(no_json, |said| chosen(&said, &candidates, config.size)))
        });
        asked.unwrap_or_else(|| Ok(Outcome::Kept(rules::group(self.bank, config.size, config.seed, id))))
    }

    /// Writes a question about a group.
    pub(super) fn write(&self, id: &str, group: &Group) -> Result<Outcome<Question>, Error> {
        let asked = self.served("writer", &self.config.writer, id, |asker| {
            let seen = asker.see(&group.images)?;
            let reply = asker.ask(&seen, &[("count", &seen.len().to_string())], 0)?;
            let sizes: Vec<ImageSizes> = seen.iter().map(|image| image.sizes).collect();
            Ok(object(&reply).map_or_else(no_json, |said| written(&said, group, &sizes)))
        });
        asked.unwrap_or_else(|| {
            let made = rules::write(&self.known(&group.images), &group.images, self.config.seed, id);
            Ok(made.map_or_else(|| Outcome::rejected("nothing to ask"), Outcome::Kept))
        })
    }

    /// Answers a question without knowing the writer's answer.
    pub(super) fn answer(&self, id: &str, asked: &Question) -> Result<Outcome<Votes>, Error> {
        let voted = self.served("answerer", &self.config.answerer, id, |asker| {
            let seen = asker.see(&asked.images)?;
            let values = [("count", &*seen.len().to_string()), ("question", &asked.question)];
            let vote = |time| {
                let reply = asker.ask(&seen, &values, time)?;
                Ok(object(&reply).and_then(|said| text(&said, "answer")).unwrap_or_default())
            };
            let answers = (0..self.config.votes).map(vote).collect::<Result<_, Error>>()?;
            Ok(Outcome::Kept(Votes { answers }))
        });
        voted.unwrap_or_else(|| {
            let answer = Form::parse(&asked.question).and_then(|form| form.answer(&self.known(&asked.images)));
            Ok(match answer {
                Some(answer) => Outcome::Kept(Votes { answers: vec![answer] }),
                None => Outcome::rejected("the rule cannot answer this"),
            })
        })
    }

    /// Judges a question and the answers to it: first by rules that need no model.
    pub(super) fn verify(&self, id: &str, (asked, votes): &(Question, Votes)) -> Result<Outcome<Verdict>, Error> {
        let agree = |answer: &&String| self.is_right(asked, answer);
        let agreement = votes.answers.iter().filter(agree).count() as f64 / votes.answers.len().max(1) as f64;
        if let Some(why) = unsound(asked) {
            return Ok(Outcome::rejected(why));
        }
        if agreement < self.config.agreement {
            return Ok(Outcome::rejected(format!("other answers ({})", votes.answers.join(" / "))));
        }
        let judged = self.served("verifier", &self.config.verifier, id, |asker| {
            let seen = asker.see(&asked.images)?;
            let (count, votes) = (seen.len().to_string(), votes.answers.join(" / "));
            let values =
                [("count", &*count), ("question", &asked.question), ("answer", &asked.answer), ("votes", &*votes)];
            let said = object(&asker.ask(&seen, &values, 0)?).unwrap_or_default();
            let note = text(&said, "reason").unwrap_or_default();
            Ok(match said.get("sound") {
                Some(Value::Bool(true)) => Outcome::Kept(Verdict { agreement, note }),
                Some(Value::Bool(false)) => Outcome::rejected(format!("unsound ({note})")),
                _ => no_json(),
            })
        });
        judged.unwrap_or_else(|| Ok(Outcome::Kept(Verdict { agreement, note: String::new() })))
    }

    fn is_right(&self, asked: &Question, answer: &str) -> bool {
        self.config.grader.equal(&asked.answer, answer) == Some(true)
    }

    /// Keeps what the base model answers wrong without tools and right with them.
    pub(super) fn difficulty(&self, id: &str, asked: &Question) -> Result<Outcome<Difficulty>, Error> {
        let found = match self.models.get(&self.config.difficulty.endpoint)? {
            Some(served) => self.tried(id, asked, &served),
            None => self.by_size(asked),
        };
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Outcome::rejected("no region that tells how hard it is")),
            Err(error) => return not_shown(error),
        };
        let ([tries, right], [tool_tries, right_with]) = (found.without, found.with);
        Ok(if right > self.config.difficulty.most_right {
            Outcome::rejected(format!("easy ({right} of {tries} right without tools)"))
        } else if right_with == 0 {
            Outcome::rejected(format!("hard (0 of {tool_tries} right with tools)"))
        } else {
            Outcome::Kept(found)
        })
    }

    /// How often the base model is right.
    fn tried(&self, id: &str, asked: &Question, served: &Served) -> Result<Option<Difficulty>, Error> {
        let settings = &self.config.difficulty;
        let sample = [Arc::new(self.sample(id, asked)?)];
        let model = Recorded::new(&*served.model, self.journal, "difficulty", id);
        let right = |round: u64, tools: &Vec<Box<dyn Tool>>, tries: usize, enough: usize| {
            let mut found = [0, 0];
            while found[0] < tries && found[1] < enough {
                let request = RolloutRequest {
                    group_size: 1,
                    sampling: settings.sampling.clone(),
                    limits: settings.limits.clone(),
                    prompt: settings.prompt.clone(),
                    seed: self.config.seed,
                    round: round + found[0] as u64,
                };
                let played = roll((&model, &served.endpoint), &served.view, tools, &sample, &request)?;
                let answer = played.into_iter().flatten().next().and_then(|trajectory| trajectory.answer);
                let is_right = answer.is_some_and(|answer| self.is_right(asked, &answer));
                found = [found[0] + 1, found[1] + usize::from(is_right)];
            }
            Ok::<_, Error>(found)
        };
        let without = right(0, &Vec::new(), settings.tries, settings.most_right + 1)?;
        let with = match without[1] > settings.most_right {
            true => [0, 0],
            false => right(WITH_TOOLS, &settings.tools, settings.tool_tries, 1)?,
        };
        Ok(Some(Difficulty { without, with }))
    }

    /// What is large enough to be read; `None` where nobody says what has to be read.
    fn by_size(&self, asked: &Question) -> Result<Option<Difficulty>, Error> {
        let settings = &self.config.difficulty;
        let view = ImageProcessor {
            min_pixels: settings.min_pixels,
            max_pixels: settings.max_pixels,
            ..ImageProcessor::default()
        };
        if !rules::needs_a_look(&asked.question) {
            return Ok(Some(Difficulty { without: [1, 1], with: [1, 1] }));
        }
        let (mut plain, mut zoomed) = (true, true);
        for gold in &asked.gold {
            let Some(image) = gold.image.checked_sub(1).and_then(|at| asked.images.get(at)) else { return Ok(None) };
            let (width, height) = self.bank.pixels(image)?.dimensions();
            let legible = |width: u32, height: u32| {
                let shown = view.shown_size(width, height).map_err(|error| wrong(image.as_ref(), error))?;
                Ok::<_, Error>(gold.bbox.height() * f64::from(shown.1) / f64::from(height) >= settings.legible)
            };
            plain &= legible(width, height)?;
            let region = rules::region(gold.bbox, width, height);
            zoomed &= legible(region.width().round().max(1.0) as u32, region.height().round().max(1.0) as u32)?;
        }
        let found = Difficulty { without: [1, usize::from(plain)], with: [1, usize::from(zoomed)] };
        Ok((!asked.gold.is_empty()).then_some(found))
    }

    /// A question as a sample.
    pub(super) fn sample(&self, id: &str, asked: &Question) -> Result<Sample, Error> {
        Ok(Sample {
            id: id.to_owned(),
            images: asked.images.iter().map(|image| self.bank.pixels(image)).collect::<Result<_, _>>()?,
            later_images: Vec::new(),
            question: asked.question.clone(),
            answer: asked.answer.clone(),
            kind: asked.kind.clone(),
            zooms_needed: None,
            gold: asked.gold.clone(),
            meta: Map::new(),
        })
    }
}

/// What a model cannot be shown is no reason to stop.
fn not_shown<T>(error: Error) -> Result<Outcome<T>, Error> {
    match error {
        Error::Chat(ChatError::TooLong(why)) => Ok(Outcome::rejected(format!("too long for the model ({why})"))),
        Error::Chat(ChatError::Encode(why)) => Ok(Outcome::rejected(format!("an image that cannot be shown ({why})"))),
        error => Err(error),
    }
}

fn no_json<T>() -> Outcome<T> {
    Outcome::rejected("no JSON")
}

/// The group that a grouper chose among candidates.
fn chosen(said: &Map<String, Value>, candidates: &[String], size: [usize; 2]) -> Outcome<Group> {
    let numbers = said.get("images").and_then(Value::as_array).cloned().unwrap_or_default();
    if numbers.is_empty() {
        return Outcome::rejected("no group");
    }
    let place = |number: &Value| candidates.get(usize::try_from(number.as_u64()?).ok()?.checked_sub(1)?).cloned();
    let Some(images) = numbers.iter().map(place).collect::<Option<Vec<String>>>() else {
        return Outcome::rejected("an image that is not there");
    };
    let mut distinct = images.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != images.len() || images.len() < size[0] || images.len() > size[1] {
        return Outcome::rejected(format!("not {} to {} images", size[0], size[1]));
    }
    Outcome::Kept(Group { images, why: text(said, "why").unwrap_or_default() })
}

/// The question that a writer wrote.
fn written(said: &Map<String, Value>, group: &Group, sizes: &[ImageSizes]) -> Outcome<Question> {
    let (Some(question), Some(answer)) = (text(said, "question"), text(said, "answer")) else {
        return Outcome::rejected("no question or answer");
    };
    let gold = said.get("gold").and_then(Value::as_array).cloned().unwrap_or_default();
    let gold = gold.iter().filter_map(|region| {
        let image = usize::try_from(region["image"].as_u64()?).ok()?;
        let sizes = sizes.get(image.checked_sub(1)?)?;
        let corners: [f64; 4] = serde_json::from_value(region["bbox_2d"].clone()).ok()?;
        let bbox: BBox<Original> = BBox::<Shown>::from(corners).clamp(sizes).to(sizes);
        (bbox.area() > 0.0).then_some(Gold { image, bbox })
    });
    let kind = text(said, "kind").unwrap_or_else(|| "question".to_owned());
    Outcome::Kept(Question { images: group.images.clone(), gold: gold.collect(), question, answer, kind })
}

/// What is wrong with a question, whatever it asks.
fn unsound(asked: &Question) -> Option<&'static str> {
    let question = asked.question.to_lowercase();
    let answer = asked.answer.trim().to_lowercase();
    let names_missing = question.match_indices("image ").any(|(at, word)| {
        let rest = &question[at + word.len()..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().is_ok_and(|image| image == 0 || image > asked.images.len())
    });
    let words: Vec<&str> = question.split(|c: char| !c.is_alphanumeric()).collect();
    let told = answer.chars().any(char::is_alphabetic)
        && !["yes", "no"].contains(&answer.as_str())
        && !words.contains(&"or")
        && words.contains(&answer.as_str());
    if names_missing {
        Some("an image that is not there")
    } else if answer.split_whitespace().count() > 12 {
        Some("a long answer")
    } else if told {
        Some("the question tells the answer")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_model_needs_to_judge() {
        let asked = |question: &str, answer: &str| Question {
            images: vec!["a".into(), "b".into()],
            question: question.into(),
            answer: answer.into(),
            kind: "a".into(),
            gold: vec![],
        };
        for (question, answer, why) in [
            ("What digit is in image 3 ?", "7", Some("an image that is not there")),
            ("What digit is in image 2 ?", "2", None),
            ("What colour is the red cup?", "red", Some("the question tells the answer")),
            ("Is the cup red or blue?", "red", None),
            ("Is it so, yes or no?", "yes", None),
            (
                "What colour is it?",
                "one two three four five six seven eight nine ten eleven twelve more",
                Some("a long answer"),
            ),
            ("What colour is the reddish cup?", "red", None),
        ] {
            assert_eq!(unsound(&asked(question, answer)), why, "{question}");
        }
    }
}
