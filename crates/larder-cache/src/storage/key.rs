//! Names of objects that can lead nowhere but to an object.

use std::{fmt, str::FromStr, sync::Arc};

/// Bytes in a key; what S3 allows is 1024, and there may be a prefix.
const MAX_LENGTH: usize = 512;

/// Bytes in a segment: what file systems allow.
const MAX_SEGMENT: usize = 255;

/// A relative path of plain names: never empty, absolute or with `.` and `..` in it, and of visible ASCII
/// only. So it is a file name in every place, and needs no quoting in messages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// A text that is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name that an object can have")]
pub struct KeyError(String);

impl Key {
    /// A key of that text.
    ///
    /// # Errors
    /// When it is not one.
    pub fn new(text: impl AsRef<str>) -> Result<Self, KeyError> {
        let text = text.as_ref();
        let sound = text.len() <= MAX_LENGTH && text.split('/').all(is_segment);
        if sound { Ok(Self(Arc::from(text))) } else { Err(KeyError(text.to_owned())) }
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last of its names.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it lies in that folder, at any depth.
    #[must_use]
    pub fn is_below(&self, folder: &str) -> bool {
        self.0.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn is_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    !segment.is_empty()
        && segment.len() <= MAX_SEGMENT
        && !matches!(segment, "." | "..")
        && segment.bytes().all(plain)
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
