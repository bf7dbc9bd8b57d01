//! Tests of caches: the places they lie in, what is pushed to them and collected from them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as the tests do"
)]

mod built;
mod clock;
mod compression;
mod faulty;
mod gc;
mod memory;
mod packed;
mod push;
mod secrets;
mod source;
mod static_cache;
mod storage;
mod tokens;
