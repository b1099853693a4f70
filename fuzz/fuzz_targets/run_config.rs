//! Fuzzes run configs: what is accepted is written out and read as the same.
#![no_main]

use imagent::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, None, &[]) {
        let written = config.to_toml();
        let again = Config::parse(&written, None, &[]).map(|config| config.to_toml());
        assert_eq!(again.ok(), Some(written));
    }
});
