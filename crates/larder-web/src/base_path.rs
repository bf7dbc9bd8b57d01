//! The path that everything lies below, as seen from some place: `/cache`, or none.
//!
//! Promise: it is made of plain names alone, so that it can stand in a link, a header, a page and a
//! configuration that somebody copies, without being escaped for any of them.

use std::{fmt, str::FromStr};

/// Longer ones than anybody writes, in bytes.
const LONGEST: usize = 512;

/// A path of plain names, without a slash at its end; empty for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(String);

/// A text that is no such path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BasePathError {
    /// It does not begin at the root.
    #[error("does not begin with `/`")]
    Relative,
    /// Somewhere in it is what would have to be escaped, nothing at all, or `.` or `..`.
    #[error("has a part that is not a plain name of letters, digits, `-`, `.`, `_` and `~`")]
    Odd,
    /// It is too long.
    #[error("is longer than {LONGEST} bytes")]
    Long,
}

impl BasePath {
    /// `/cache`; the empty text for the root.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last of its names; none for the root.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(_, last)| last)
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for BasePath {
    type Err = BasePathError;

    /// Takes one slash at the end, too.
    fn from_str(text: &str) -> Result<Self, BasePathError> {
        if text.len() > LONGEST {
            return Err(BasePathError::Long);
        }
        let names = text.strip_prefix('/').ok_or(BasePathError::Relative)?;
        if names.is_empty() {
            return Ok(Self::default());
        }
        let names = names.strip_suffix('/').unwrap_or(names);
        // What RFC 3986, section 2.3 leaves unescaped everywhere.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let good = |name: &str| !matches!(name, "" | "." | "..") && name.chars().all(plain);
        if !names.split('/').all(good) {
            return Err(BasePathError::Odd);
        }
        Ok(Self(format!("/{names}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_means_nothing() {
        for (text, path, last) in [
            ("/", "", None),
            ("/cache", "/cache", Some("cache")),
            ("/cache/", "/cache", Some("cache")),
            ("/a/b-1.c_d~", "/a/b-1.c_d~", Some("b-1.c_d~")),
        ] {
            let parsed: BasePath = text.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.last()), (path, last), "{text}");
            assert_eq!(format!("{parsed}/").parse(), Ok(parsed));
        }
    }

    #[test]
    fn what_is_not_made_of_plain_names_is_refused() {
        for odd in [
            "//",
            "//evil.example",
            "/a//b",
            "/a//",
            "/.",
            "/../a",
            "/a/..",
            "/a b",
            "/a%2fb",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/\"><script>",
            "/a\nb",
            "/a:b",
            "/{a}",
            "/ä",
            "/a;b",
            "/a,b",
        ] {
            assert_eq!(odd.parse::<BasePath>(), Err(BasePathError::Odd), "{odd:?}");
        }
        for relative in ["", "cache", "cache/", "https://evil.example/", " /a"] {
            assert_eq!(relative.parse::<BasePath>(), Err(BasePathError::Relative), "{relative:?}");
        }
        assert_eq!(format!("/{}", "a".repeat(512)).parse::<BasePath>(), Err(BasePathError::Long));
    }
}
