//! The surroundings of a mark, in which a check decides.

use super::finding::{Fingerprint, Kind};

/// Bytes before a mark that a check may see.
pub(super) const BEHIND: usize = 512;

/// Bytes from a mark's beginning on that a check may see: an RSA key of 8192 bits, and any token.
pub(super) const AHEAD: usize = 8 * 1024;

/// What stands around a mark: as much as a check may see, or up to the file's ends.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// At most [`BEHIND`] bytes, the nearest last.
    pub(super) before: &'a [u8],
    /// At most [`AHEAD`] bytes, beginning with the mark.
    pub(super) after: &'a [u8],
}

/// What a check found.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) fingerprint: Fingerprint,
    /// Where it begins, in bytes from the mark's beginning; below 0 where it begins before.
    pub(super) start: isize,
}

impl Found {
    pub(super) fn new(kind: Kind, start: isize, secret: &[u8]) -> Self {
        Self { kind, fingerprint: Fingerprint::of(secret), start }
    }
}

impl<'a> View<'a> {
    /// The view of a mark at `at` of what is at hand.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        let (before, after) = bytes.split_at(at.min(bytes.len()));
        Self {
            before: &before[before.len().saturating_sub(BEHIND)..],
            after: &after[..after.len().min(AHEAD)],
        }
    }

    /// Whether a word can begin at the mark.
    pub(super) fn begins_a_word(self) -> bool {
        ends_a_word(self.before)
    }

    /// What follows the first `skip` bytes.
    pub(super) fn past(self, skip: usize) -> &'a [u8] {
        self.after.get(skip..).unwrap_or_default()
    }

    /// Where what follows a label begins, from the mark on: behind `=`, `:`, `=>` or the `>` of an
    /// element, with white space and quotes around.
    pub(super) fn value(self, label: usize) -> Option<usize> {
        let quoted = |byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'\\');
        let skip =
            |from| from + self.past(from).iter().take(8).take_while(|byte| quoted(byte)).count();
        let sign = skip(label);
        let width = match self.past(sign) {
            [b'=', b'>', ..] => 2,
            [b'=' | b':' | b'>', ..] => 1,
            _ => return None,
        };
        Some(skip(sign + width))
    }
}

/// Whether another word can follow a text: it does not end in the middle of one, though it may end with an escape
/// such as `\n`, `%3D` or `\u003d`.
pub(super) fn ends_a_word(text: &[u8]) -> bool {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match text {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', a, b] if is_hex(&[*a, *b]) => true,
        [.., b'\\', b'u', a, b, c, d] if is_hex(&[*a, *b, *c, *d]) => true,
        [.., last] => !(last.is_ascii_alphanumeric() || *last == b'_'),
        [] => true,
    }
}
