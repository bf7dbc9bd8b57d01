//! NAR, Nix's archive of a file tree, as a stream.
//!
//! A NAR is a sequence of strings, each an unsigned 64-bit little-endian length, the bytes, and
//! zeros up to a multiple of eight: `nix-archive-1`, then one node. A node is
//! `( type regular [executable ""] contents <bytes> )`, `( type symlink target <target> )` or
//! `( type directory { entry ( name <name> node <node> ) } )` with names in ascending order of
//! bytes. (Section 5.2 of Eelco Dolstra's thesis, and `archive.cc` in Nix.)
//!
//! Promise: there is one NAR for a tree, and the [decoder](Decoder) takes no other: what it accepts,
//! the [encoder](Encoder) writes again byte for byte. Memory is bounded by the limits below,
//! whatever lengths a NAR claims. Nothing here touches a file.

mod decode;
mod encode;
mod error;
mod event;
mod listing;
mod listing_json;

pub use decode::Decoder;
pub use encode::{
    DIRECTORY_PREFIX_LEN, DIRECTORY_SUFFIX_LEN, ENTRY_SUFFIX_LEN, Encoder, MAGIC_LEN,
    REGULAR_CLOSE_LEN, entry_prefix_len, padding, regular_len, regular_prefix_len,
    regular_suffix_len, symlink_len,
};
pub use error::{NarError, NarErrorKind};
pub use event::Event;
pub use listing::{Listing, ListingBuilder, ListingError, ListingNode};

/// The longest name of a directory entry in bytes (`NAME_MAX` of the systems Nix runs on).
pub const MAX_NAME_LEN: usize = 255;

/// The longest target of a symlink in bytes (`PATH_MAX` less its NUL).
pub const MAX_TARGET_LEN: usize = 4095;

/// How many directories may lie within each other: more than a path of `PATH_MAX` can name.
pub const MAX_DEPTH: usize = 2048;
