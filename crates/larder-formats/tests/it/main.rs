//! Tests of the formats: golden files made by real Nix, round trips, and hostile input.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as the tests do"
)]

mod cache_info;
mod content_address;
mod derivation;
mod envelope;
mod golden;
mod internal_json;
mod lock_file;
mod lock_hold;
mod nar_file;
mod nar_hostile;
mod nar_round_trip;
mod narinfo;
mod package_name;
mod realisation;
mod signature;
mod store_path;
mod texts;
