//! What a client may send, understood in one place.
//!
//! Promise: each parser is a pure function of the bytes that came, takes any bytes without a panic and
//! without memory beyond a multiple of theirs, and yields a value that no later code has to check again.
//! Nothing here knows of statuses, of the store or of who asks: what a refusal means over HTTP is the
//! handlers' business. The targets `request_*` in `fuzz/` hold these parsers to what they promise.

pub mod authorization;
pub mod build_file;
pub mod encoding;
pub mod id;
pub mod info_file;
pub mod inner_path;
pub mod nar_name;
pub mod packed_name;
pub mod range;
pub mod realisation_file;
pub mod revision_file;
