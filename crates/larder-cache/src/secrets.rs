//! What a closure must not carry to a cache that others can read.
//!
//! Promise: private keys, tokens and password hashes that stand as text in a file of a store path are found
//! wherever they stand and however the NAR comes in pieces, in memory that does not grow with either; and
//! nothing here passes a secret on: a finding says where it is, of what kind, and a hash of it. Each kind
//! is checked by all that its format says, checksums included, since a scan that cries at every
//! documentation is switched off.
//!
//! It deliberately does not look into archives, compressed files, binary key stores (PKCS #12, Java's) or names
//! of files, and not for what has no form of its own: passwords, and tokens that are mere random text. Keys
//! behind a passphrase are found like others: a cache is read by many and forgets nothing, and a
//! passphrase can be guessed at leisure.
//!
//! Which paths are looked at is decided elsewhere: those that a trusted upstream has are public already.

mod allow_list;
mod finding;
mod json_web_tokens;
mod marks;
mod password_hashes;
mod pem;
mod private_keys;
mod randomness;
mod scanner;
mod shape;
mod tokens;
mod view;
mod window;

pub use allow_list::{AllowList, AllowListError, NIXPKGS};
pub use finding::{Finding, Fingerprint, Kind};
pub use scanner::{MAX_FINDINGS, Scanner};
