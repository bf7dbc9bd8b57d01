//! Nix's base 32: thirty-two characters without `e`, `o`, `t` and `u`, least significant bits last.
//!
//! Promise: a text decodes to at most one byte string and back to itself; a text that Nix would
//! not have written (bad character, bits set beyond the last byte, impossible length) is refused.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
const INVALID: u8 = 0xff;
const VALUES: [u8; 256] = values();

/// Why a text is not base 32 as Nix writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Nix32Error {
    /// A character outside the alphabet `0123456789abcdfghijklmnpqrsvwxyz`.
    #[error(
        "{character:?} at position {position} is not a character of Nix's base 32 \
         (0-9 and a-z without e, o, t, u)"
    )]
    Character {
        /// The offending character.
        character: char,
        /// Its place, counted in bytes from 0.
        position: usize,
    },
    /// No byte string has this many characters in base 32.
    #[error("{0} characters of base 32 do not make whole bytes")]
    Length(usize),
    /// The text is well formed, but of another length than asked for.
    #[error("expected {expected} characters of base 32, found {found}")]
    WrongLength {
        /// How many characters the wanted bytes take.
        expected: usize,
        /// How many there were.
        found: usize,
    },
    /// Bits are set that no byte has room for: Nix would have written another first character.
    #[error("the first character of the base 32 text has bits set beyond the last byte")]
    SpillBits,
}

/// How many characters `bytes` bytes take: 20 → 32, 32 → 52.
#[must_use]
pub const fn encoded_len(bytes: usize) -> usize {
    // Divided before multiplied, so that no length overflows.
    bytes / 5 * 8 + (bytes % 5 * 8).div_ceil(5)
}

/// Writes bytes in Nix's base 32.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for position in (0..encoded_len(bytes.len())).rev() {
        let (byte, shift) = place(position);
        let low = u16::from(bytes.get(byte).copied().unwrap_or(0));
        let high = u16::from(bytes.get(byte + 1).copied().unwrap_or(0));
        let digit = ((high << 8 | low) >> shift) & 0x1f;
        text.push(char::from(ALPHABET[usize::from(digit)]));
    }
    text
}

/// Reads Nix's base 32 of any length.
///
/// # Errors
/// [`Nix32Error`] for a bad character, an impossible length, or spill bits.
pub fn decode(text: &str) -> Result<Vec<u8>, Nix32Error> {
    let bytes = text.len() / 8 * 5 + text.len() % 8 * 5 / 8;
    if encoded_len(bytes) != text.len() {
        // The character is named first: it tells more than a length that came out odd.
        check_characters(text)?;
        return Err(Nix32Error::Length(text.len()));
    }
    let mut decoded = vec![0; bytes];
    decode_into(text, &mut decoded)?;
    Ok(decoded)
}

/// Reads Nix's base 32 of exactly `N` bytes.
///
/// # Errors
/// [`Nix32Error`] as [`decode`], and [`Nix32Error::WrongLength`].
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Nix32Error> {
    if text.len() != encoded_len(N) {
        return Err(Nix32Error::WrongLength { expected: encoded_len(N), found: text.len() });
    }
    let mut decoded = [0; N];
    decode_into(text, &mut decoded)?;
    Ok(decoded)
}

fn decode_into(text: &str, bytes: &mut [u8]) -> Result<(), Nix32Error> {
    check_characters(text)?;
    for (position, character) in text.bytes().rev().enumerate() {
        let (byte, shift) = place(position);
        let digit = u16::from(VALUES[usize::from(character)]) << shift;
        let [low, high] = digit.to_le_bytes();
        // `byte` is in range: `encoded_len` of the length gave this many characters.
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return Err(Nix32Error::SpillBits),
            None => {}
        }
    }
    Ok(())
}

fn check_characters(text: &str) -> Result<(), Nix32Error> {
    match text.char_indices().find(|(_, c)| !c.is_ascii() || VALUES[*c as usize] == INVALID) {
        Some((position, character)) => Err(Nix32Error::Character { character, position }),
        None => Ok(()),
    }
}

/// The byte in which the digit starts that is `position` digits from the end, and its first bit.
const fn place(position: usize) -> (usize, usize) {
    // `position * 5` without the chance of an overflow.
    (position / 8 * 5 + position % 8 * 5 / 8, position % 8 * 5 % 8)
}

const fn values() -> [u8; 256] {
    let mut table = [INVALID; 256];
    let mut digit = 0;
    while digit < 32 {
        table[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    table
}
