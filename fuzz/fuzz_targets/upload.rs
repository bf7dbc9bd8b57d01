//! libFuzzer's way into [`larder_fuzz::upload::upload`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::upload::upload(bytes));
