//! libFuzzer's way into [`larder_fuzz::realisation_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::realisation_json(bytes));
