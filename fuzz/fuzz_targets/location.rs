//! libFuzzer's way into [`larder_fuzz::text::location`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::text::location(bytes));
