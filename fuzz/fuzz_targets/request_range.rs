//! libFuzzer's way into [`larder_fuzz::request::range`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::request::range(bytes));
