//! libFuzzer's way into [`larder_fuzz::request::forwarded`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::request::forwarded(bytes));
