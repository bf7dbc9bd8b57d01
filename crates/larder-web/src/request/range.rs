//! `Range` and `If-Range`, as far as a NAR or a file needs them: one range of bytes (RFC 9110, sections
//! 13.1.5 and 14).

use std::ops::Range;

/// A range of bytes that holds none of those there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range begins behind the end")]
pub struct Unsatisfiable;

/// One range of bytes, of something whose size is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From this byte on.
    From(u64),
    /// From one byte to another, both included; the second is not before the first.
    Between(u64, u64),
    /// That many bytes at the end.
    Last(u64),
}

impl ByteRange {
    /// Reads the value of a `Range` header. Nothing, if it is not one well-formed range of bytes: such a
    /// header is passed over, as the RFC has it, and so are several ranges.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (first, last) = str::from_utf8(value).ok()?.strip_prefix("bytes=")?.split_once('-')?;
        match (first, last) {
            ("", length) => Some(Self::Last(number(length)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The part of `size` bytes that is meant: never empty, never beyond the end. Nothing where that can
    /// only be the whole, which is when the last bytes of nothing are asked for: they are satisfiable by
    /// the RFC, and yet no `Content-Range` can name them.
    pub fn of(self, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
        let part = match self {
            Self::From(first) => first..size,
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(1..) if size == 0 => return Ok(None),
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        if part.is_empty() { Err(Unsatisfiable) } else { Ok(Some(part)) }
    }
}

/// The part of `size` bytes that the values of a `Range` and an `If-Range` header ask for together; nothing
/// for all of them. A range of other bytes than those with this ETag, which is given with its quotes, is
/// answered with the whole.
pub fn requested(
    range: Option<&[u8]>,
    if_range: Option<&[u8]>,
    size: u64,
    etag: &str,
) -> Result<Option<Range<u64>>, Unsatisfiable> {
    wanted(range, if_range, etag).map_or(Ok(None), |range| range.of(size))
}

/// Whether they ask for a part, of whatever size the whole is.
pub fn is_requested(range: Option<&[u8]>, if_range: Option<&[u8]>, etag: &str) -> bool {
    wanted(range, if_range, etag).is_some()
}

fn wanted(range: Option<&[u8]>, if_range: Option<&[u8]>, etag: &str) -> Option<ByteRange> {
    if if_range.is_some_and(|known| known != etag.as_bytes()) {
        return None;
    }
    range.and_then(ByteRange::parse)
}

/// Stricter than u64's own parser, which takes a sign.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
