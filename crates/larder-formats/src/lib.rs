//! Nix's own formats: bytes in, values out.
//!
//! Promise: nothing here reads a file, a clock, the environment or randomness, so every function
//! is a function of its arguments alone. Parsing hostile bytes neither panics nor allocates more
//! than a small multiple of what was given, whatever lengths the bytes claim.
//!
//! This crate does not know where bytes come from, whether a path exists, or who is allowed to ask.
//!
//! | module | format |
//! |---|---|
//! | [`store_path`] | `/nix/store/<hash>-<name>` |
//! | [`nix32`], [`hash`] | Nix's base 32, SHA-256 in every spelling Nix has |
//! | [`signature`] | key files, `Sig:` lines and what they sign |
//! | [`narinfo`], [`content_address`], [`cache_info`] | the text files of a binary cache |
//! | [`derivation`] | what is built, from what, and how |
//! | [`realisation`] | which path an output of a content-addressed derivation is |
//! | [`package_name`] | which package and version a name stands for |
//! | [`nar`] | archives: streaming decoder, encoder, listings |
//! | [`lock_file`] | `flake.lock` |
//! | [`internal_json`] | Nix's `--log-format internal-json` |
//! | [`envelope`] | DSSE, the signed envelope of a fleet's revisions |

pub mod cache_info;
pub mod content_address;
pub mod derivation;
pub mod envelope;
pub mod hash;
pub mod internal_json;
pub mod lock_file;
pub mod nar;
pub mod nar_file;
pub mod narinfo;
pub mod nix32;
pub mod package_name;
pub mod realisation;
pub mod signature;
pub mod store_path;

pub use hash::Sha256;
pub use narinfo::NarInfo;
pub use store_path::{StoreDir, StorePath, StorePathHash};
