//! Text to token ids and back, by a published `tokenizer.json`; knows nothing of chat turns or images.

use std::path::Path;

use crate::config::Config;
use crate::error::{ModelError, Result};

/// Ids of the added tokens with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<|im_start|>`: opens a turn.
    pub im_start: u32,
    /// `<|im_end|>`: ends a turn.
    pub im_end: u32,
    /// `<|endoftext|>`, padding and end of a document.
    pub endoftext: Option<u32>,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
    /// `<|image_pad|>`: stands for one image token.
    pub image_pad: u32,
    /// `<|video_pad|>`.
    pub video_pad: Option<u32>,
    /// `<|vision_pad|>`.
    pub vision_pad: Option<u32>,
}

/// A tokenizer as published; encoding adds nothing, and recognises the added tokens in the text.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    size: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` from a folder.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Tokenizer` if it is no tokenizer, or lacks a token this crate needs.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        Self::from_bytes(&bytes)
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(failed("read"))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed("read"))?;
        let special = special_tokens(&inner)?;
        let ids = inner.get_vocab(true);
        let size = ids.values().max().map_or(0, |&id| id as usize + 1);
        Ok(Self { inner, special, size })
    }

    /// Ids of a text. No token is added in front or behind.
    ///
    /// # Errors
    /// `Tokenizer` if the model has no token for a piece; cannot happen with a byte-level one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed("encode"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of ids. With `skip_special`, tokens marked special (`<|im_end|>`, `<|image_pad|>`, …) leave nothing;
    /// `<tool_call>` is not one of them. Bytes that are not UTF-8 (a character cut in two) become U+FFFD; ids beyond the
    /// tokenizer leave nothing.
    ///
    /// # Errors
    /// `Tokenizer` if the file's decoder refuses.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.inner.decode(ids, skip_special).map_err(failed("decode"))
    }

    /// Id of a token written as in the file (for a byte-level model, not the same as the text it stands for).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token with an id, as in the file.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One above the largest id; the model's embedding may have more rows.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Ids with a meaning of their own.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Whether an id is dropped when decoding with `skip_special`.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&id).is_some_and(|t| t.special)
    }

    /// Checks that the tokens with a meaning have the ids that a model's configuration gives them, and that the embedding has a
    /// row for every token. `file` is what errors call the tokenizer.
    ///
    /// # Errors
    /// `Config` naming the file and the token.
    pub fn check(&self, config: &Config, file: &Path) -> Result<()> {
        let (own, model) = (&self.special, &config.tokens);
        let wrong = |field: &str, expected: String, got: String| {
            Err(ModelError::Config { file: file.display().to_string(), field: field.into(), expected, got })
        };
        for (token, key, id, wanted) in [
            ("<|image_pad|>", "image_token_id", Some(own.image_pad), Some(model.image)),
            ("<|video_pad|>", "video_token_id", own.video_pad, Some(model.video)),
            ("<|vision_start|>", "vision_start_token_id", Some(own.vision_start), Some(model.vision_start)),
            ("<|vision_end|>", "vision_end_token_id", Some(own.vision_end), Some(model.vision_end)),
            ("<|vision_pad|>", "vision_token_id", own.vision_pad, model.vision_pad),
        ] {
            if let (Some(id), Some(wanted)) = (id, wanted)
                && id != wanted
            {
                return wrong(token, format!("id {wanted}, the {key} of config.json"), id.to_string());
            }
        }
        if self.size > config.text.vocab_size {
            let rows = config.text.vocab_size;
            return wrong(
                "vocab",
                format!("ids below {rows}, the vocab_size of config.json"),
                (self.size - 1).to_string(),
            );
        }
        Ok(())
    }

    /// Ids that must never be sampled, ascending: the vision tokens (a sampled `<|image_pad|>` would ask for an image that
    /// is not there), and the `vocab_size - size()` rows of the embedding that have no token.
    pub fn never_sampled(&self, vocab_size: usize) -> Vec<u32> {
        let s = &self.special;
        let vision = [Some(s.vision_start), Some(s.vision_end), s.vision_pad, Some(s.image_pad), s.video_pad];
        let unused = (0..vocab_size as u32).filter(|&id| self.inner.id_to_token(id).is_none());
        let mut ids: Vec<u32> = vision.into_iter().flatten().chain(unused).collect();
        ids.sort_unstable();
        ids
    }
}

fn failed(op: &'static str) -> impl FnOnce(tokenizers::Error) -> ModelError {
    move |e| ModelError::Tokenizer { op, message: e.to_string() }
}

fn special_tokens(inner: &tokenizers::Tokenizer) -> Result<SpecialTokens> {
    let need = |token: &str| {
        let missing = || ModelError::Tokenizer { op: "read", message: format!("there is no token `{token}`") };
        inner.token_to_id(token).ok_or_else(missing)
    };
    Ok(SpecialTokens {
        im_start: need("<|im_start|>")?,
        im_end: need("<|im_end|>")?,
        endoftext: inner.token_to_id("<|endoftext|>"),
        vision_start: need("<|vision_start|>")?,
        vision_end: need("<|vision_end|>")?,
        image_pad: need("<|image_pad|>")?,
        video_pad: inner.token_to_id("<|video_pad|>"),
        vision_pad: inner.token_to_id("<|vision_pad|>"),
    })
}
