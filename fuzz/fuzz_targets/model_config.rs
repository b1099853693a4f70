//! Fuzzes `config.json` and `preprocessor_config.json`: what is accepted survives being written and read again.
#![no_main]

use imagent::models::config::Config;
use imagent::models::image_processor::ImageProcessor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    if let Ok(config) = Config::from_json(&json) {
        assert!(Config::from_json(&config.to_json()).is_ok());
    }
    if let Ok(processor) = ImageProcessor::from_json(&json) {
        let _ = processor.shown_size(640, 480);
    }
});
