//! What each role does with one item.

use std::collections::BTreeMap;
use std::sync::Arc;

use imagent_core::chat::{ChatError, ChatModel};
use imagent_core::{BBox, Gold, ImageSizes, Original, RgbImage, RolloutRequest, Sample, Shown, Size, seed};
use imagent_models::image_processor::ImageProcessor;
use rand::seq::index;
use serde_json::{Map, Value};

use super::ask::{Asker, object, text};
use super::bank::Bank;
use super::config::{PipelineConfig, RoleConfig};
use super::item::{Difficulty, Group, Question, Verdict, Votes};
use super::keep::{Cost, Line};
use super::rules::{self, Form, Shelf};
use super::{Prompts, Served, wrong};
use crate::error::Error;
use crate::served::evaluate::{Counted, roll, shown};

/// What all roles work with.
pub(super) struct Office<'a> {
    pub(super) config: &'a PipelineConfig,
    pub(super) bank: Bank,
    pub(super) shelf: Shelf,
    pub(super) prompts: Prompts,
    pub(super) served: &'a BTreeMap<String, Served>,
}

impl Office<'_> {
    /// The served model in a role, or `None` where a rule plays it.
    fn with<T>(
        &self,
        name: &str,
        role: &RoleConfig,
        act: impl FnOnce(&Asker<'_>) -> Result<T, Error>,
    ) -> Option<Result<T, Error>> {
        let served = self.served.get(&role.endpoint)?;
        let view = |image: &RgbImage| shown(&served.view, image).map_err(ChatError::from);
        let prompt = self.prompts.get(name).map_or("", String::as_str);
        Some(act(&Asker { model: &*served.model, view: &view, role, prompt, seed: self.config.seed }))
    }

    fn pixels(&self, images: &[usize]) -> Result<Vec<Arc<RgbImage>>, Error> {
        images.iter().map(|&image| self.bank.pixels(image)).collect()
    }

    /// Puts images together.
    pub(super) fn group(&self, id: &str) -> Result<Line<Group>, Error> {
        let (config, bank) = (self.config, &self.bank);
        let asked = self.with("grouper", &config.grouper.role, |asker| {
            let mut rng = seed::rng(config.seed, &[seed::text("candidates"), seed::text(id)]);
            let candidates = index::sample(&mut rng, bank.len(), config.grouper.candidates.min(bank.len())).into_vec();
            let [fewest, most] = config.size;
            let numbers = [candidates.len(), fewest, most].map(|number| number.to_string());
            let blanks = [("count", &*numbers[0]), ("fewest", &*numbers[1]), ("most", &*numbers[2])];
            let replied = asker.ask(id, &self.pixels(&candidates)?, &blanks, 1)?;
            let said = replied.texts.first().and_then(|text| object(text));
            let line = said.map_or_else(
                || Line::rejected(id, "no JSON"),
                |said| chosen(id, &said, &candidates, bank, config.size),
            );
            Ok(Line { cost: replied.cost, said: replied.texts, ..line })
        });
        asked.unwrap_or_else(|| {
            let made = rules::group(bank, &self.shelf, config.size, config.seed, id);
            Ok(made.map_or_else(|| Line::rejected(id, "too few images"), |group| Line::kept(id, group)))
        })
    }

    /// Writes a question about a group.
    pub(super) fn write(&self, id: &str, group: &Group) -> Result<Line<Question>, Error> {
        let asked = self.with("writer", &self.config.writer, |asker| {
            let pixels = self.pixels(&group.images)?;
            let replied = asker.ask(id, &pixels, &[("count", &pixels.len().to_string())], 1)?;
            let sizes = pixels
                .iter()
                .map(|image| Ok(sizes(image, &(asker.view)(image)?)))
                .collect::<Result<Vec<_>, ChatError>>()?;
            let line = match replied.texts.first().and_then(|text| object(text)) {
                Some(said) => written(id, &said, group, &sizes),
                None => Line::rejected(id, "no JSON"),
            };
            Ok(Line { cost: replied.cost, said: replied.texts, ..line })
        });
        asked.unwrap_or_else(|| {
            let known: Vec<_> = group.images.iter().map(|&image| self.bank.objects(image)).collect();
            let made = rules::write(&known, &group.images, self.config.seed, id);
            Ok(made.map_or_else(|| Line::rejected(id, "nothing to ask"), |question| Line::kept(id, question)))
        })
    }

    /// Answers a question without knowing the writer's answer.
    pub(super) fn answer(&self, id: &str, asked: &Question) -> Result<Line<Votes>, Error> {
        let answerer = &self.config.answerer;
        let voted = self.with("answerer", &answerer.role, |asker| {
            let pixels = self.pixels(&asked.images)?;
            let blanks = [("count", &*pixels.len().to_string()), ("question", &asked.question)];
            let replied = asker.ask(id, &pixels, &blanks, answerer.votes)?;
            let said = |reply: &String| object(reply).and_then(|said| text(&said, "answer")).unwrap_or_default();
            let answers: Vec<String> = replied.texts.iter().map(said).collect();
            let line = Line::kept(id, Votes { answers });
            Ok(Line { cost: replied.cost, said: replied.texts, ..line })
        });
        voted.unwrap_or_else(|| {
            let known: Vec<_> = asked.images.iter().map(|&image| self.bank.objects(image)).collect();
            let answer = Form::parse(&asked.question).and_then(|form| form.answer(&known));
            Ok(match answer {
                Some(answer) => Line::kept(id, Votes { answers: vec![answer] }),
                None => Line::rejected(id, "the rule cannot answer this"),
            })
        })
    }

    /// Judges a question and the answers to it: first by rules that need no model.
    pub(super) fn verify(&self, id: &str, (asked, votes): &(Question, Votes)) -> Result<Line<Verdict>, Error> {
        let agree = |answer: &&String| self.config.grader.equal(&asked.answer, answer) == Some(true);
        let agreement = votes.answers.iter().filter(agree).count() as f64 / votes.answers.len().max(1) as f64;
        if let Some(why) = unsound(asked) {
            return Ok(Line::rejected(id, why));
        }
        if agreement < self.config.answerer.agreement {
            return Ok(Line::rejected(id, format!("other answers ({})", votes.answers.join(" / "))));
        }
        let judged = self.with("verifier", &self.config.verifier, |asker| {
            let pixels = self.pixels(&asked.images)?;
            let (count, votes) = (pixels.len().to_string(), votes.answers.join(" / "));
            let blanks =
                [("count", &*count), ("question", &asked.question), ("answer", &asked.answer), ("votes", &*votes)];
            let replied = asker.ask(id, &pixels, &blanks, 1)?;
            let said = replied.texts.first().and_then(|text| object(text)).unwrap_or_default();
            let note = text(&said, "reason").unwrap_or_default();
            let line = match said.get("sound") {
                Some(Value::Bool(true)) => Line::kept(id, Verdict { agreement, note }),
                Some(Value::Bool(false)) => Line::rejected(id, format!("unsound ({note})")),
                _ => Line::rejected(id, "no JSON"),
            };
            Ok(Line { cost: replied.cost, said: replied.texts, ..line })
        });
        judged.unwrap_or_else(|| Ok(Line::kept(id, Verdict { agreement, note: String::new() })))
    }

    /// Keeps what the base model answers wrong without tools and right with them.
    pub(super) fn difficulty(&self, id: &str, asked: &Question) -> Result<Line<Difficulty>, Error> {
        let settings = &self.config.difficulty;
        let (found, cost) = match self.served.get(&settings.endpoint) {
            Some(served) => self.tried(id, asked, served)?,
            None => (self.by_rule(asked)?, Cost::default()),
        };
        let line = if found.without[1] > settings.most_right {
            Line::rejected(id, format!("easy ({} of {} right without tools)", found.without[1], found.without[0]))
        } else if found.with[1] == 0 {
            Line::rejected(id, format!("hard (0 of {} right with tools)", found.with[0]))
        } else {
            Line::kept(id, found)
        };
        Ok(Line { cost, ..line })
    }

    /// By trying.
    fn tried(&self, id: &str, asked: &Question, served: &Served) -> Result<(Difficulty, Cost), Error> {
        let settings = &self.config.difficulty;
        let sample = Arc::new(self.sample(id, asked)?);
        let counted = Counted::new(&*served.model);
        let none = Vec::new();
        let right = |round: u64, tools: &Vec<_>, tries: usize, enough: usize| -> Result<[usize; 2], Error> {
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
                let model: &dyn ChatModel = &counted;
                let played = roll((model, &served.endpoint), &served.view, tools, &[Arc::clone(&sample)], &request)?;
                let answer = played.into_iter().flatten().next().and_then(|trajectory| trajectory.answer);
                let is_right =
                    answer.is_some_and(|answer| self.config.grader.equal(&asked.answer, &answer) == Some(true));
                found = [found[0] + 1, found[1] + usize::from(is_right)];
            }
            Ok(found)
        };
        let without = right(0, &none, settings.tries, settings.most_right + 1)?;
        let with = match without[1] > settings.most_right {
            true => [0, 0],
            false => right(1 << 32, &settings.tools, settings.tool_tries, 1)?,
        };
        Ok((Difficulty { without, with }, counted.cost()))
    }

    /// By what is large enough to be read.
    fn by_rule(&self, asked: &Question) -> Result<Difficulty, Error> {
        let settings = &self.config.difficulty;
        let view = ImageProcessor {
            min_pixels: settings.min_pixels,
            max_pixels: settings.max_pixels,
            ..ImageProcessor::default()
        };
        let refused = |error: imagent_models::error::ModelError| wrong("difficulty".as_ref(), error);
        let (mut plain, mut zoomed) = (true, true);
        for gold in asked.gold.iter().filter(|_| rules::needs_a_look(&asked.question)) {
            let Some(&image) = gold.image.checked_sub(1).and_then(|at| asked.images.get(at)) else { continue };
            let (width, height) = self.bank.pixels(image)?.dimensions();
            let (_, shown) = view.shown_size(width, height).map_err(refused)?;
            plain &= gold.bbox.height() * f64::from(shown) / f64::from(height) >= settings.legible;
            let region = rules::region(gold.bbox, width, height);
            let (w, h) = (region.width().round().max(1.0) as u32, region.height().round().max(1.0) as u32);
            let (_, shown) = view.shown_size(w, h).map_err(refused)?;
            zoomed &= gold.bbox.height() * f64::from(shown) / f64::from(h) >= settings.legible;
        }
        Ok(Difficulty { without: [1, usize::from(plain)], with: [1, usize::from(zoomed)] })
    }

    /// A question as a sample.
    pub(super) fn sample(&self, id: &str, asked: &Question) -> Result<Sample, Error> {
        Ok(Sample {
            id: id.to_owned(),
            images: self.pixels(&asked.images)?,
            question: asked.question.clone(),
            answer: asked.answer.clone(),
            kind: asked.kind.clone(),
            zooms_needed: None,
            gold: asked.gold.clone(),
            meta: Map::new(),
        })
    }
}

fn sizes(image: &RgbImage, shown: &RgbImage) -> ImageSizes {
    let size = |image: &RgbImage| Size::new(image.width(), image.height());
    ImageSizes { original: size(image), shown: size(shown) }
}

/// The group that a grouper chose among candidates.
fn chosen(id: &str, said: &Map<String, Value>, candidates: &[usize], bank: &Bank, size: [usize; 2]) -> Line<Group> {
    let numbers = said.get("images").and_then(Value::as_array).cloned().unwrap_or_default();
    if numbers.is_empty() {
        return Line::rejected(id, "no group");
    }
    let place = |number: &Value| candidates.get(usize::try_from(number.as_u64()?).ok()?.checked_sub(1)?).copied();
    let Some(images) = numbers.iter().map(place).collect::<Option<Vec<usize>>>() else {
        return Line::rejected(id, "an image that is not there");
    };
    let mut distinct = images.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != images.len() || images.len() < size[0] || images.len() > size[1] {
        return Line::rejected(id, format!("not {} to {} images", size[0], size[1]));
    }
    let names = images.iter().map(|&image| bank.name(image)).collect();
    Line::kept(id, Group { images, names, why: text(said, "why").unwrap_or_default() })
}

/// The question that a writer wrote.
fn written(id: &str, said: &Map<String, Value>, group: &Group, sizes: &[ImageSizes]) -> Line<Question> {
    let (Some(question), Some(answer)) = (text(said, "question"), text(said, "answer")) else {
        return Line::rejected(id, "no question or answer");
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
    Line::kept(id, Question { images: group.images.clone(), gold: gold.collect(), question, answer, kind })
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
            images: vec![3, 5],
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
