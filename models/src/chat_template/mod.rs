//! Chat turns to prompt text by the model's own Jinja template, and image placeholders to image tokens.
//!
//! Renders as transformers' `apply_chat_template` does: blocks trimmed, Python's methods on strings and maps, `tojson` with
//! Python's separators and the keys in the order of the message. Not rendered as in Python: lists and maps printed without
//! `tojson`, map literals with several keys (sorted), slices backwards with a
//! start or a stop, `{% break %}`, `{% generation %}`; `strftime_now` tells UTC.

mod guard;
mod json;
mod time;

pub use guard::renders;

use std::path::Path;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, escape_formatter};
use serde_json::Value as Json;

use crate::error::{ModelError, Result, read_json};

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: Vec<(String, String)>,
}

/// What a template is told beside the messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions<'a> {
    /// Tool schemas in OpenAI's form; `None` is Python's `None`.
    pub tools: Option<&'a [Json]>,
    /// End with the opening of an assistant's turn.
    pub add_generation_prompt: bool,
    /// Write `Picture N: ` before images, where the template knows how.
    pub add_vision_id: bool,
}

impl ChatTemplate {
    /// Reads the template of a model's folder: `chat_template.jinja`, else `chat_template.json`, else the one in
    /// `tokenizer_config.json`. The latter also tells `eos_token` and the like.
    ///
    /// # Errors
    /// `Io` or `Json` naming the file; `Template` if there is none or it does not compile.
    pub fn open(dir: &Path) -> Result<Self> {
        let config = dir.join("tokenizer_config.json");
        let config: Json = if config.is_file() { read_json(&config)? } else { Json::Null };
        let mut template = Self::new(&source(dir, &config)?)?;
        for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
            let token = &config[key];
            if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
                template.special.push((key.to_owned(), text.to_owned()));
            }
        }
        Ok(template)
    }

    /// Compiles a template.
    ///
    /// # Errors
    /// `Template` with the line of the mistake.
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_formatter(python_formatter);
        environment.set_unknown_method_callback(guard::unknown_method);
        environment.set_fuel(Some(guard::STEPS));
        environment.add_filter("format", guard::format);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", time::strftime_now);
        let compiled = guard::contained(|| environment.add_template_owned("chat", source.to_owned()));
        compiled.map_err(failed("compile"))?;
        Ok(Self { environment, special: Vec::new() })
    }

    /// Prompt text of OpenAI-style messages (`role`, `content` as text or as a list of parts, `tool_calls`). Every image
    /// part leaves one `<|image_pad|>`.
    ///
    /// # Errors
    /// `Template` if the template raises an exception, asks for what a message lacks, or takes more steps or writes more than a
    /// chat can need.
    pub fn render(&self, messages: &[Json], options: &RenderOptions<'_>) -> Result<String> {
        let template = self.environment.get_template("chat").map_err(failed("render"))?;
        let tools = options.tools.map_or(Value::from(()), json::list);
        let mut context = vec![
            ("messages", json::list(messages)),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
            ("add_vision_id", Value::from(options.add_vision_id)),
        ];
        context.extend(self.special.iter().map(|(key, token)| (key.as_str(), Value::from(token.as_str()))));
        let mut text = guard::Text::default();
        let rendered =
            guard::contained(|| template.render_captured_to(Value::from_iter(context), &mut text).map(|_| ()));
        text.finish(rendered).map_err(failed("render"))
    }
}

/// Replaces each `image_pad` in `ids` by as many as its image has tokens (`tokens_per_image`, in order of appearance).
/// Returns the ids, and where the tokens of each image start in them.
///
/// # Errors
/// `ImageCount` unless there are as many placeholders as images.
///
/// ```
/// # use imagent_models::chat_template::expand_image_pads;
/// let (ids, starts) = expand_image_pads(&[1, 9, 2, 9], 9, &[3, 1]).unwrap();
/// assert_eq!((ids, starts), (vec![1, 9, 9, 9, 2, 9], vec![1, 5]));
/// ```
pub fn expand_image_pads(ids: &[u32], image_pad: u32, tokens_per_image: &[usize]) -> Result<(Vec<u32>, Vec<usize>)> {
    let pads = ids.iter().filter(|&&id| id == image_pad).count();
    if pads != tokens_per_image.len() {
        return Err(ModelError::ImageCount { pads, images: tokens_per_image.len() });
    }
    let mut out = Vec::with_capacity(ids.len() + tokens_per_image.iter().sum::<usize>());
    let mut starts = Vec::with_capacity(pads);
    let mut counts = tokens_per_image.iter();
    for &id in ids {
        match counts.as_slice().first() {
            Some(&count) if id == image_pad => {
                starts.push(out.len());
                out.resize(out.len() + count, id);
                counts.next();
            }
            _ => out.push(id),
        }
    }
    Ok((out, starts))
}

fn source(dir: &Path, tokenizer_config: &Json) -> Result<String> {
    let jinja = dir.join("chat_template.jinja");
    if jinja.is_file() {
        return std::fs::read_to_string(&jinja).map_err(ModelError::io(&jinja));
    }
    let path = dir.join("chat_template.json");
    let file: Json = if path.is_file() { read_json(&path)? } else { Json::Null };
    let found = [&file["chat_template"], &tokenizer_config["chat_template"]].into_iter().find_map(template_text);
    found.map(str::to_owned).ok_or_else(|| ModelError::Template {
        op: "read",
        message: format!("there is none in {} (chat_template.jinja, chat_template.json)", dir.display()),
    })
}

/// A template is a string, or a list of named ones, of which `default` is taken.
fn template_text(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => Some(text),
        Json::Array(list) => list.iter().find(|t| t["name"] == "default").and_then(|t| t["template"].as_str()),
        _ => None,
    }
}

/// Prints `True`, `False` and `None` as Python does.
fn python_formatter(
    out: &mut minijinja::Output<'_>,
    state: &minijinja::State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), Error> {
    let word = match bool::try_from(value.clone()) {
        Ok(true) if value.kind() == minijinja::value::ValueKind::Bool => "True",
        Ok(false) if value.kind() == minijinja::value::ValueKind::Bool => "False",
        _ if value.is_none() => "None",
        _ => return escape_formatter(out, state, value),
    };
    out.write_str(word).map_err(Error::from)
}

fn raise_exception(message: String) -> std::result::Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// What went wrong, as this crate's error.
fn failed(op: &'static str) -> impl FnOnce(Error) -> ModelError {
    move |e| ModelError::Template { op, message: e.to_string() }
}
