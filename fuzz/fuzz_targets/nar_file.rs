//! libFuzzer's way into [`larder_fuzz::nar_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::nar_file(bytes));
