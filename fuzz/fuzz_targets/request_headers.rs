//! libFuzzer's way into [`larder_fuzz::request::headers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::request::headers(bytes));
