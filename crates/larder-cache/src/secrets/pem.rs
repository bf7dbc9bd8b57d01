//! Keys of key pairs that take many lines: PEM and PuTTY's form, as files of their own or inside texts with quotes
//! and escapes of many kinds.

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::memmem;

use super::{
    finding::Kind,
    randomness::is_random_mix,
    shape::Letters,
    view::{AHEAD, Found, View},
};

/// Of so many letters a fingerprint is made: as many are seen of a large key, however its lines are quoted.
const FINGERPRINTED: usize = AHEAD / 2;

/// A key in PEM: `-----BEGIN … PRIVATE KEY-----`.
pub(super) fn any(view: View<'_>) -> Option<Found> {
    let text = view.past(b"-----BEGIN ".len());
    let width = memmem::find(&text[..text.len().min(64)], b"-----")?;
    let (label, rest) = text.split_at(width);
    if !label.ends_with(b"PRIVATE KEY") && label != b"PGP PRIVATE KEY BLOCK" {
        return None;
    }
    let mut body = Body::read(&rest[5..], view.after.len() == AHEAD);
    let by_passphrase = match label {
        b"OPENSSH PRIVATE KEY" => body.openssh(),
        b"PGP PRIVATE KEY BLOCK" => body.pgp(),
        _ if body.headers_say_encrypted => body.legacy_encrypted(),
        _ => body.der(),
    }?;
    let service_account = memmem::find(view.before, b"service_account").is_some();
    let kind = match by_passphrase {
        true => Kind::EncryptedPrivateKey,
        false if service_account => Kind::Token("a Google service account"),
        false => Kind::PrivateKey,
    };
    Some(body.found(kind))
}

/// A key of PuTTY: headers, public lines, private lines.
pub(super) fn putty(view: View<'_>) -> Option<Found> {
    const PRIVATE: &[u8] = b"Private-Lines: ";
    let at = memmem::find(view.after, PRIVATE)?;
    let encrypted = memmem::find(&view.after[..at], b"Encryption: none").is_none();
    let text = view.past(at + PRIVATE.len());
    let count = std::str::from_utf8(&text[..Letters::Digits.run(text, 4)]).ok()?.parse().ok()?;
    let mut body = Body::default();
    // Between the lines there may be others, of quotes alone.
    let is_line = |line: &&[u8]| line.iter().any(u8::is_ascii_alphanumeric);
    let mut lines = lines(text).skip(1).filter(is_line).take(count);
    let sound = lines.all(|line| body.take(line)) && body.base64.len() >= 40;
    let kind = if encrypted { Kind::EncryptedPrivateKey } else { Kind::PrivateKey };
    (sound && is_random_mix(&body.base64, 64)).then(|| body.found(kind))
}

/// What stands between the lines of a PEM.
#[derive(Default)]
struct Body {
    /// Without the `=` at its end.
    base64: Vec<u8>,
    headers_say_encrypted: bool,
    /// The end line is there, or lies beyond what can be seen.
    is_whole: bool,
}

impl Body {
    /// Reads up to the first line that belongs to no PEM. `cut` says that the text goes on unseen.
    fn read(text: &[u8], cut: bool) -> Self {
        let mut body = Self::default();
        let end = memmem::find(text, b"-----END ");
        let text = &text[..end.unwrap_or(text.len())];
        let mut stopped = false;
        for line in lines(text) {
            if line.contains(&b':') {
                body.headers_say_encrypted |= memmem::find(line, b"ENCRYPTED").is_some();
            } else if !body.take(line) {
                stopped = true;
                break;
            }
        }
        body.is_whole = !stopped && (end.is_some() || cut);
        body
    }

    /// Takes a line, with what stands around it in lists, quotes and comments; says whether a PEM can have it.
    fn take(&mut self, line: &[u8]) -> bool {
        let is_quoting = |byte: &u8| !(Letters::Base64.has(*byte) || b"=-".contains(byte));
        line.split(is_quoting).all(|word| {
            // PGP ends with a checksum of its own, `=abcd`. The lines of a text may be put together by a sign.
            if matches!(word, b"+" | b"//") || (word.first() == Some(&b'=') && word.len() == 5) {
                return true;
            }
            let filler = word.iter().rev().take_while(|byte| **byte == b'=').count();
            let word = &word[..word.len() - filler];
            let is_base64 = word.iter().all(|byte| Letters::Base64.has(*byte));
            if is_base64 {
                self.base64.extend_from_slice(word);
            }
            is_base64
        })
    }

    fn found(&self, kind: Kind) -> Found {
        Found::new(kind, 0, &self.base64[..self.base64.len().min(FINGERPRINTED)])
    }

    /// The first bytes it stands for, a multiple of three.
    fn decoded(&self, bytes: usize) -> Option<Vec<u8>> {
        STANDARD.decode(self.base64.get(..bytes / 3 * 4)?).ok()
    }

    /// Whether a passphrase protects it; none for what is no key.
    fn openssh(&self) -> Option<bool> {
        let head = self.decoded(24)?;
        let cipher = head.strip_prefix(b"openssh-key-v1\0")?;
        // The shortest, of Ed25519, has 232 bytes.
        let is_key = self.base64.len() > 250 && is_random_mix(&self.base64, 64);
        is_key.then_some(!cipher.starts_with(b"\0\0\0\x04none"))
    }

    fn pgp(&self) -> Option<bool> {
        // A packet of a secret key, in the old form or the new (RFC 9580, section 4.2).
        let first = *self.decoded(3)?.first()?;
        let tag = if first & 0x40 == 0 { first >> 2 & 0xf } else { first & 0x3f };
        let is_key = first & 0x80 != 0 && tag == 5 && self.is_whole && self.base64.len() > 100;
        // Whether there is a passphrase stands behind the public part, whose length differs.
        is_key.then_some(false)
    }

    fn legacy_encrypted(&self) -> Option<bool> {
        let sound = self.is_whole && self.base64.len() >= 64 && is_random_mix(&self.base64, 64);
        sound.then_some(true)
    }

    /// RSA, EC, DSA and PKCS #8 are sequences that begin with a version; encrypted PKCS #8 with another sequence.
    /// They say how long they are, so the end line need not be there, and what follows is left out.
    fn der(&mut self) -> Option<bool> {
        let head = self.decoded(9)?;
        let (length, inside) = match *head.as_slice() {
            [0x30, 0x82, high, low, ref inside @ ..] => {
                (4 + usize::from(u16::from_be_bytes([high, low])), inside)
            }
            [0x30, 0x81, length, ref inside @ ..] => (3 + usize::from(length), inside),
            [0x30, length @ ..=0x7f, ref inside @ ..] => (2 + usize::from(length), inside),
            _ => return None,
        };
        let there = self.base64.len() * 3 / 4;
        let goes_on_unseen = self.is_whole && self.base64.len() >= FINGERPRINTED;
        if length < 40 || (there < length && !goes_on_unseen) {
            return None;
        }
        self.base64.truncate((length * 4).div_ceil(3));
        match inside {
            _ if !is_random_mix(&self.base64, 64) => None,
            [0x02, 0x01, 0x00 | 0x01, ..] => Some(false),
            [0x30, ..] => Some(true),
            _ => None,
        }
    }
}

/// The lines of a text in which line ends may be written out (`\n`) or hidden behind a backslash, and which may be
/// a list of lines in quotes.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |at: usize| match rest[at..] {
            [b'\n' | b'\r', ..] | [b'"' | b'\'', b',', ..] | [b'\\'] => true,
            [b'\\', next, ..] => b"nr\\\n\r".contains(&next),
            _ => false,
        };
        let end = (0..rest.len()).find(|at| is_end(*at)).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(end);
        let mut skip = behind.iter().take_while(|byte| **byte == b'\\').count();
        skip += usize::from(!behind.is_empty() && skip < behind.len());
        rest = &behind[skip..];
        Some(line.trim_ascii())
    })
}
