//! libFuzzer's way into [`larder_fuzz::realisation`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::realisation(bytes));
