//! libFuzzer's way into [`larder_fuzz::text::authorization`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::text::authorization(bytes));
