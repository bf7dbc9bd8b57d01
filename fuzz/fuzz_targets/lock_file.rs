//! libFuzzer's way into [`larder_fuzz::lock_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::lock_file(bytes));
