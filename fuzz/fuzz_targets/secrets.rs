//! libFuzzer's way into [`larder_fuzz::secrets::secrets`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::secrets::secrets(bytes));
