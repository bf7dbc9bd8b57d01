//! libFuzzer's way into [`larder_fuzz::derivation`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::derivation(bytes));
