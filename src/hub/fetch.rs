//! All files of a model, from the hub or from the cache.

use std::path::Path;

use imagent_models::checkpoint::AUX_FILES;

use super::cache::{INDEX, Shelf, WEIGHTS, missing, shard_names};
use super::client::{Client, Content, Description, is_plain};
use super::download::download;
use super::error::HubError;
use super::id::HubId;
use super::settings::Settings;
use super::{Located, Need};
use crate::byte_progress::{ByteProgress, amount, line};

/// Finds a model in the cache or brings it there.
///
/// A commit that is in the cache is taken as it is. A branch or a tag is asked for at the hub; if the hub cannot be reached, what
/// the cache has is taken.
pub(super) fn fetch(id: &HubId, need: Need, settings: &Settings) -> Result<Located, HubError> {
    let shelf = Shelf::new(&settings.cache, id);
    let kept = shelf.commit().map(|commit| shelf.snapshot(&commit));
    let lacks = kept.as_deref().map_or_else(|| Some("it".to_owned()), missing);
    if settings.offline {
        return match (kept, lacks) {
            (Some(dir), None) => Ok(located(dir)),
            (Some(dir), Some(_)) if need == Need::Description && is_described(&dir) => Ok(located(dir)),
            (_, lacks) => Err(HubError::Offline {
                id: id.to_string(),
                cache: settings.cache.clone(),
                missing: lacks.unwrap_or_default(),
            }),
        };
    }
    if let (Some(dir), None, true) = (&kept, &lacks, id.is_pinned()) {
        return Ok(located(dir.clone()));
    }
    let client = Client::new(id, settings)?;
    match (client.description(), kept, lacks) {
        (Ok(description), ..) => Fetch { id, shelf, client, description, quiet: settings.quiet }.run(need),
        (Err(HubError::Request { url, problem }), Some(dir), None) => {
            say(settings.quiet, &format!("{url}: {problem}; taking {id} from the cache"));
            Ok(located(dir))
        }
        (Err(error), ..) => Err(error),
    }
}

fn located(dir: std::path::PathBuf) -> Located {
    Located { dir, remote: Vec::new() }
}

/// Whether there is enough to say what the model is.
fn is_described(dir: &Path) -> bool {
    dir.join("config.json").is_file() && (dir.join(WEIGHTS).is_file() || dir.join(INDEX).is_file())
}

fn say(quiet: bool, text: &str) {
    if !quiet {
        line(text);
    }
}

/// A revision on its way into the cache.
struct Fetch<'a> {
    id: &'a HubId,
    shelf: Shelf,
    client: Client,
    description: Description,
    quiet: bool,
}

impl Fetch<'_> {
    fn run(&self, need: Need) -> Result<Located, HubError> {
        let dir = self.shelf.snapshot(&self.description.sha);
        let has = |name: &str| self.description.siblings.iter().any(|file| file.name == name);
        if !has("config.json") {
            return Err(self.unusable("the repository has no config.json".to_owned()));
        }
        let single = has(WEIGHTS);
        if !single && !has(INDEX) {
            return Err(self.unusable(format!("the repository has neither {WEIGHTS} nor {INDEX}")));
        }
        let small = ["config.json"].into_iter().chain(AUX_FILES).chain((!single).then_some(INDEX));
        let small: Vec<String> = small.filter(|name| has(name)).map(str::to_owned).collect();
        self.files(&small)?;
        let weights = if single { vec![WEIGHTS.to_owned()] } else { self.shards(&dir)? };
        self.shelf.set_commit(&self.description.sha)?;
        if need == Need::Description {
            let size = |name: &String| self.description.siblings.iter().find(|file| file.name == *name)?.size;
            let all_here = weights.iter().all(|name| dir.join(name).is_file());
            let remote = weights.into_iter().filter(|_| !all_here).map(|name| (name.clone(), size(&name))).collect();
            return Ok(Located { dir, remote });
        }
        self.files(&weights)?;
        Ok(located(dir))
    }

    /// The files that the index names, each of which the repository must have.
    fn shards(&self, dir: &Path) -> Result<Vec<String>, HubError> {
        let names = shard_names(&dir.join(INDEX));
        let names = names.ok_or_else(|| self.unusable(format!("its {INDEX} is no index of weights")))?;
        let known = |name: &String| is_plain(name) && self.description.siblings.iter().any(|file| file.name == *name);
        match names.iter().find(|name| !known(name)) {
            Some(name) => Err(self.unusable(format!("its {INDEX} names {name}, which the repository does not have"))),
            None => Ok(names.into_iter().collect()),
        }
    }

    /// Brings those of the files that the snapshot lacks.
    fn files(&self, names: &[String]) -> Result<(), HubError> {
        let commit = &self.description.sha;
        let dir = self.shelf.snapshot(commit);
        let absent: Vec<&String> = names.iter().filter(|name| !dir.join(name).is_file()).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let contents: Vec<(&String, String, Content)> = absent
            .into_iter()
            .map(|name| {
                let url = self.client.url(commit, name);
                let content = self.client.content(&url)?;
                Ok((name, url, content))
            })
            .collect::<Result<_, HubError>>()?;
        let total = contents.iter().map(|(_, _, content)| content.size).sum();
        let progress = if self.quiet { ByteProgress::quiet() } else { ByteProgress::new(&self.id.repo, total) };
        let plural = if contents.len() == 1 { "" } else { "s" };
        progress.say(&format!("{}: fetching {} file{plural}, {}", self.id, contents.len(), amount(total)));
        let done = contents.iter().try_for_each(|(name, url, content)| {
            let _lock = self.shelf.lock(&content.etag)?;
            download(&self.client, url, content, &self.shelf.blob(&content.etag), &progress)?;
            self.shelf.link(commit, name, &content.etag)
        });
        progress.finish();
        done
    }

    fn unusable(&self, problem: String) -> HubError {
        HubError::Unusable { id: self.id.to_string(), problem }
    }
}
