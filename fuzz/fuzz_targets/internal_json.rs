//! libFuzzer's way into [`larder_fuzz::internal_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::internal_json(bytes));
