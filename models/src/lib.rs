//! Qwen2.5-VL: published files in, numbers out. The only crate of imagent that may hold `unsafe`.

#[macro_use]
mod timed;

pub mod adamw;
pub mod chat_template;
pub mod checkpoint;
pub mod codec;
pub mod config;
pub mod conversation;
mod engine;
pub mod error;
pub mod footprint;
pub mod image_processor;
pub mod lora;
pub mod memory;
pub mod nano;
pub mod nano_tokenizer;
pub mod ops;
mod patch_cache;
pub mod policy;
pub mod published;
pub mod qwen;
pub mod signals;
pub mod tokenizer;
