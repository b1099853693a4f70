//! Fuzzes chat templates: the first line of the input is a list of messages, the rest a template.
#![no_main]

use imagent::models::chat_template::{ChatTemplate, RenderOptions, renders};
use libfuzzer_sys::fuzz_target;

/// Panics of the template engine are errors of ours; any other ends the run.
fn keep_engine_panics_quiet() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !renders() {
            abort(panic);
        }
    }));
}

fuzz_target!(init: keep_engine_panics_quiet(), |text: &str| {
    let (messages, source) = text.split_once('\n').unwrap_or(("[]", text));
    let messages: Vec<serde_json::Value> = serde_json::from_str(messages).unwrap_or_default();
    if let Ok(template) = ChatTemplate::new(source) {
        let _ = template.render(&messages, &RenderOptions { add_generation_prompt: true, ..RenderOptions::default() });
    }
});
