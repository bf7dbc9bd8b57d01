//! libFuzzer's way into [`larder_fuzz::store_path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::store_path(bytes));
