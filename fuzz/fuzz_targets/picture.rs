//! Fuzzes the image intake: any bytes give a picture or an error. Start from `tests/pictures`.
#![no_main]

use imagent::core::picture;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = picture::decode(bytes) {
        assert_eq!(error.to_string().lines().count(), 1);
    }
});
