//! libFuzzer's way into [`larder_fuzz::server::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::server::request(bytes));
