//! libFuzzer's way into [`larder_fuzz::content_address`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::content_address(bytes));
