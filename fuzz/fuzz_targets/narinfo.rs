//! libFuzzer's way into [`larder_fuzz::narinfo`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::narinfo(bytes));
