//! Passwords' hashes as crypt(5) writes them, in /etc/shadow and in lists of users, and Argon2's. Those of DES have
//! nothing to be told by.

use super::{
    finding::Kind,
    shape::{self, Letters, Part},
    view::{Found, View},
};

/// Each scheme: what it begins with, a salt, a hash of a length of its own.
pub(super) const SCHEMES: &[&[Part]] = &[
    &[Part::Fixed(b"$6$"), SALT, DOLLAR, SHA512, TWO_BITS],
    &[Part::Fixed(b"$6$rounds="), ROUNDS, DOLLAR, SALT, DOLLAR, SHA512, TWO_BITS],
    &[Part::Fixed(b"$5$"), SALT, DOLLAR, BYTES_32, FOUR_BITS],
    &[Part::Fixed(b"$5$rounds="), ROUNDS, DOLLAR, SALT, DOLLAR, BYTES_32, FOUR_BITS],
    &[Part::Fixed(b"$1$"), SALT, DOLLAR, MD5, TWO_BITS],
    &[Part::Fixed(b"$apr1$"), SALT, DOLLAR, MD5, TWO_BITS],
    &[Part::Fixed(b"$md5$"), SALT, DOLLAR, MD5, TWO_BITS],
    &[Part::Fixed(b"$md5$"), SALT, DOLLAR, DOLLAR, MD5, TWO_BITS],
    &[Part::Fixed(b"$md5,rounds="), ROUNDS, DOLLAR, SALT, DOLLAR, MD5, TWO_BITS],
    &[Part::Fixed(b"$md5,rounds="), ROUNDS, DOLLAR, SALT, DOLLAR, DOLLAR, MD5, TWO_BITS],
    &[
        Part::Fixed(b"$sha1$"),
        ROUNDS,
        DOLLAR,
        LONG_SALT,
        DOLLAR,
        Part::Secret(Letters::Crypt, 28, 28),
    ],
    &[Part::Fixed(b"$3$$"), Part::Secret(Letters::Hex, 32, 32)],
    &[Part::Fixed(b"$y$"), PARAMETERS, DOLLAR, LONG_SALT, DOLLAR, BYTES_32, FOUR_BITS],
    &[Part::Fixed(b"$gy$"), PARAMETERS, DOLLAR, LONG_SALT, DOLLAR, BYTES_32, FOUR_BITS],
    &[Part::Fixed(b"$7$"), LONG_SALT, DOLLAR, BYTES_32, FOUR_BITS],
    &[Part::Fixed(b"$2a$"), COST, DOLLAR, BCRYPT, BCRYPT_END],
    &[Part::Fixed(b"$2b$"), COST, DOLLAR, BCRYPT, BCRYPT_END],
    &[Part::Fixed(b"$2x$"), COST, DOLLAR, BCRYPT, BCRYPT_END],
    &[Part::Fixed(b"$2y$"), COST, DOLLAR, BCRYPT, BCRYPT_END],
    &[
        Part::Fixed(b"$argon2"),
        Part::Run(Letters::Alphanumeric, 1, 2),
        Part::Fixed(b"$v="),
        Part::Run(Letters::Digits, 1, 3),
        DOLLAR,
        PARAMETERS,
        DOLLAR,
        Part::Run(Letters::Base64, 8, 86),
        DOLLAR,
        Part::Secret(Letters::Base64, 22, 171),
    ],
];

const DOLLAR: Part = Part::Fixed(b"$");
const SALT: Part = Part::Run(Letters::Crypt, 0, 16);
const LONG_SALT: Part = Part::Run(Letters::Crypt, 1, 128);
const ROUNDS: Part = Part::Run(Letters::Digits, 1, 9);
const PARAMETERS: Part = Part::Run(Letters::Parameters, 1, 64);
const COST: Part = Part::Run(Letters::Digits, 2, 2);

// Hashes up to their last letter, which stands for two bits or four.
const SHA512: Part = Part::Secret(Letters::Crypt, 85, 85);
const BYTES_32: Part = Part::Secret(Letters::Crypt, 42, 42);
const MD5: Part = Part::Secret(Letters::Crypt, 21, 21);
const TWO_BITS: Part = Part::OneOf(b"./01");
const FOUR_BITS: Part = Part::OneOf(b"./0123456789ABCD");
/// Salt and hash.
const BCRYPT: Part = Part::Secret(Letters::Crypt, 52, 52);
/// bcrypt has the letters in another order, and the bits too.
const BCRYPT_END: Part = Part::OneOf(b".CGKOSWaeimquy26");

/// A hash of any of these schemes.
pub(super) fn any(view: View<'_>) -> Option<Found> {
    let of = |scheme: &&[Part]| shape::length(view.after, scheme).filter(|(_, goes_on)| !goes_on);
    let (length, _) = SCHEMES.iter().find_map(of)?;
    Some(Found::new(Kind::PasswordHash, 0, &view.after[..length]))
}
