//! libFuzzer's way into [`larder_fuzz::nix32`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| larder_fuzz::nix32(bytes));
