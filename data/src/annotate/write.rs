//! Annotated samples to a dataset folder with trajectories: the samples, the same as ShareGPT and as OpenAI JSON lines, what was
//! rejected, and counts.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;

use imagent_core::conversation::{CONVERSATION, MARK};
use imagent_core::{BoxFrame, Role, Sample, Turn};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Reject, Teller, Told};
use crate::error::DataError;
use crate::folder::SAMPLES;
use crate::folder::write::{Summary, write_rows_and};
use crate::formats::reader::decoded;
use crate::formats::{Answer, Region, Select, open};

/// The files that are written beside the samples.
const SHAREGPT: &str = "sharegpt.jsonl";
const OPENAI: &str = "openai.jsonl";
const REJECTS: &str = "rejects.jsonl";
const STATISTICS: &str = "annotate.json";

/// A sample with its images' files, or its id and why there is none.
pub type Drawn = Result<(Sample, Vec<Vec<u8>>), (String, Reject)>;

/// Writes a trajectory of a sample anew, or leaves it; an error, in words, ends the annotation.
pub type Rewrite<'a> = dyn Fn(&Sample, &str) -> Result<Option<String>, String> + Sync + 'a;

/// Trajectories in other words.
#[derive(Clone, Copy)]
pub struct Rewriter<'a> {
    /// Writes one anew.
    pub write: &'a Rewrite<'a>,
    /// How many are written at once.
    pub at_once: usize,
}

/// What becomes of samples.
pub struct Annotator<'a> {
    /// Writes the trajectories.
    pub teller: Teller<'a>,
    /// What is put after the question in conversations: how to answer.
    pub suffix: String,
    /// Writes them anew; a text that no longer gives the annotated answer is not taken.
    pub rewrite: Option<Rewriter<'a>>,
}

/// What came of an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Annotated {
    /// Samples that were read.
    pub read: usize,
    /// Trajectories by kind of sample.
    pub kept: BTreeMap<String, usize>,
    /// Trajectories by number of images.
    pub images: BTreeMap<usize, usize>,
    /// Samples that got none, by reason.
    pub rejected: BTreeMap<String, usize>,
    /// Trajectories whose text is a rewritten one, and those that kept their own, as there was no other or it lost the answer.
    pub rewritten: [usize; 2],
}

impl Annotated {
    fn all_rejected(&self) -> DataError {
        let rejected = self.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
        DataError::AllRejected { read: self.read, rejected: rejected.join(", ") }
    }
}

/// The samples of a dataset of any format with their images' files.
///
/// # Errors
/// When the dataset cannot be opened. A sample whose images cannot be read is drawn as a reject.
pub fn samples_of(path: &Path, select: Select<'_>) -> Result<impl Iterator<Item = Drawn> + use<>, DataError> {
    let reader = open(path, select)?;
    Ok((0..reader.len()).map(move |position| {
        let mut entry =
            reader.entry(position).map_err(|error| (position.to_string(), Reject::BadImage(error.to_string())))?;
        if matches!(&entry.answer, Answer::Box(Region { image: None, .. })) && entry.pictures.len() > 1 {
            return Err((entry.id, Reject::NoImage));
        }
        // The trajectory takes the place of the row's own conversation.
        entry.conversation.clear();
        entry.later_pictures.clear();
        let (images, files) = decoded(&*reader, &entry).map_err(|(picture, problem)| {
            (entry.id.clone(), Reject::BadImage(format!("{:?}: {problem}", picture.name())))
        })?;
        Ok((entry.sample(images), files))
    }))
}

/// A trajectory, and what came of writing it anew.
struct Written {
    told: Told,
    other: Option<Result<Option<String>, String>>,
}

/// A sample, its trajectory, and its images' files.
type Trajectory = (Sample, Written, Vec<Vec<u8>>);

impl Annotator<'_> {
    /// Writes trajectories of the samples to a new folder at `out`: whole, or not at all; when the same is there already, nothing
    /// changes. `done` is told after each sample how many were read.
    ///
    /// # Errors
    /// When the folder holds something else, nothing is left to write, a text cannot be written anew, or the disk refuses.
    pub fn write(
        &self,
        mut drawn: impl Iterator<Item = Drawn>,
        out: &Path,
        done: &mut dyn FnMut(usize),
    ) -> Result<(Summary, Annotated), DataError> {
        // Rows are drawn while they are written; the counts are written after them.
        let counted = RefCell::new((Annotated::default(), String::new()));
        let at_once = self.rewrite.map_or(1, |rewrite| rewrite.at_once.max(1));
        let mut ready = VecDeque::new();
        let told = std::iter::from_fn(|| {
            if ready.is_empty() {
                ready.extend(self.tell(drawn.by_ref().take(at_once).collect()));
            }
            ready.pop_front()
        });
        let rows = told.filter_map(|told| {
            let (report, rejects) = &mut *counted.borrow_mut();
            report.read += 1;
            done(report.read);
            match told.map(|told| Ok((self.annotate(told.0, told.1, report)?, told.2))) {
                Ok(Ok(row)) => Some(Ok(row)),
                Ok(Err(error)) => Some(Err(error)),
                Err((id, reject)) => {
                    *report.rejected.entry(reject.name().to_owned()).or_default() += 1;
                    let line = json!({"id": id, "reason": reject.name(), "problem": reject.to_string()});
                    rejects.push_str(&format!("{line}\n"));
                    None
                }
            }
        });
        let written = write_rows_and(out, rows, |folder| {
            let (report, rejects) = &*counted.borrow();
            export(folder)?;
            let settings = json!({
                "frame": self.teller.frame, "seed": self.teller.seed, "suffix": self.suffix, "wording": self.teller.wording,
                "counts": report,
            });
            for (name, text) in [(REJECTS, rejects.as_str()), (STATISTICS, &format!("{settings:#}\n"))] {
                let file = folder.join(name);
                fs::write(&file, text).map_err(DataError::io("write", &file))?;
            }
            Ok(())
        });
        let report = counted.into_inner().0;
        match written {
            Err(DataError::Empty { .. }) if report.read > 0 => Err(report.all_rejected()),
            written => Ok((written?, report)),
        }
    }

    /// Trajectories of some samples, written anew side by side where somebody does that.
    fn tell(&self, drawn: Vec<Drawn>) -> Vec<Result<Trajectory, (String, Reject)>> {
        let tell = |drawn: Drawn| {
            let (sample, files) = drawn?;
            let told = self.teller.tell(&sample).map_err(|reject| (sample.id.clone(), reject))?;
            let other = self.rewrite.map(|rewrite| (rewrite.write)(&sample, &told.text));
            Ok((sample, Written { told, other }, files))
        };
        if drawn.len() < 2 {
            return drawn.into_iter().map(tell).collect();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = drawn.into_iter().map(|drawn| scope.spawn(|| tell(drawn))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|told| told.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// A sample with its conversation.
    fn annotate(&self, mut sample: Sample, written: Written, report: &mut Annotated) -> Result<Sample, DataError> {
        let Written { told: Told { mut text, shown }, other } = written;
        if let Some(other) = other {
            let id = || sample.id.clone();
            let other = other.map_err(|problem| DataError::Rewrite { id: id(), problem })?;
            // A mark of an image or of a turn in the text would be read as one.
            let plain = |other: &String| !other.contains(MARK) && !other.contains("<|");
            let other = other.filter(|other| plain(other) && self.teller.is_answered_by(&sample, other));
            report.rewritten[usize::from(other.is_none())] += 1;
            text = other.unwrap_or(text);
        }
        let asked = format!("{}{}{}", MARK.repeat(sample.images.len()), sample.question, self.suffix);
        let turns = [(Role::User, asked), (Role::Assistant, text)].map(|(role, content)| Turn { role, content });
        let meta = &mut sample.meta;
        meta.insert(CONVERSATION.into(), json!(turns));
        meta.insert("box_frame".into(), json!(self.teller.frame));
        if self.teller.frame == BoxFrame::Shown {
            let sizes: Vec<[u32; 2]> = shown.iter().map(|size| [size.width, size.height]).collect();
            meta.insert("shown".into(), json!(sizes));
        }
        *report.kept.entry(sample.kind.clone()).or_default() += 1;
        *report.images.entry(sample.images.len()).or_default() += 1;
        Ok(sample)
    }
}

/// Writes the conversations of the samples in `folder` as ShareGPT's and as OpenAI's JSON lines, whose images are the folder's.
fn export(folder: &Path) -> Result<(), DataError> {
    let from = folder.join(SAMPLES);
    let create = |name: &str| {
        let path = folder.join(name);
        let file = File::create(&path).map_err(DataError::io("create", &path))?;
        Ok::<_, DataError>((BufWriter::new(file), path))
    };
    let (mut sharegpt, sharegpt_path) = create(SHAREGPT)?;
    let (mut openai, openai_path) = create(OPENAI)?;
    let lines = BufReader::new(File::open(&from).map_err(DataError::io("open", &from))?).lines();
    for line in lines {
        let line = line.map_err(DataError::io("read", &from))?;
        // The line was written a moment ago.
        let row: Value = serde_json::from_str(&line).unwrap_or_default();
        let turns: Vec<Turn> = serde_json::from_value(row["meta"][CONVERSATION].clone()).unwrap_or_default();
        let said = |turn: &Turn| json!({"from": if turn.role == Role::Assistant { "gpt" } else { "human" }, "value": turn.content});
        let conversations: Vec<Value> = turns.iter().map(said).collect();
        let row_of = |key: &str, turns: Value| json!({"id": row["id"], "images": row["images"], key: turns});
        writeln!(sharegpt, "{}", row_of("conversations", json!(conversations)))
            .map_err(DataError::io("write", &sharegpt_path))?;
        writeln!(openai, "{}", row_of("messages", json!(turns))).map_err(DataError::io("write", &openai_path))?;
    }
    sharegpt.flush().map_err(DataError::io("write", &sharegpt_path))?;
    openai.flush().map_err(DataError::io("write", &openai_path))
}
