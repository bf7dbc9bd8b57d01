//! libFuzzer's way into [`larder_fuzz::nar`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::nar(bytes));
