//! libFuzzer's way into [`larder_fuzz::cache_info`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::cache_info(bytes));
