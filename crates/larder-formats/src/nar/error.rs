//! What can be wrong with a NAR, and where.

use super::MAX_DEPTH;

/// Where and why bytes are not a NAR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad NAR at byte {offset}: {kind}")]
pub struct NarError {
    /// How many bytes of the NAR had been taken when it was seen.
    pub offset: u64,
    /// What is wrong.
    pub kind: NarErrorKind,
}

/// What can be wrong with a NAR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarErrorKind {
    /// Another word should be here.
    #[error("expected {expected}, found {}", .found.escape_ascii())]
    Unexpected {
        /// What should be here.
        expected: &'static str,
        /// The beginning of what is here.
        found: Vec<u8>,
    },
    /// A string claims a length that nothing at its place can have.
    #[error("{what} of {len} bytes; at most {limit} are allowed")]
    TooLong {
        /// Which string.
        what: &'static str,
        /// Its claimed length in bytes.
        len: u64,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// A file claims to end beyond what 64 bits can count.
    #[error("a file of {0} bytes would end beyond what 64 bits can count")]
    FileTooLarge(u64),
    /// A byte of padding is not zero.
    #[error("padding that is not zero")]
    Padding,
    /// A name is empty, `.` or `..`, or has a slash or NUL.
    #[error("{:?} can't be a file's name", .0.escape_ascii().to_string())]
    Name(Vec<u8>),
    /// An entry's name does not come after the one before it.
    #[error(
        "entry {:?} does not come after {:?}; entries are sorted and none comes twice",
        .name.escape_ascii().to_string(), .previous.escape_ascii().to_string()
    )]
    Order {
        /// The name.
        name: Vec<u8>,
        /// The name before it.
        previous: Vec<u8>,
    },
    /// A symlink's target is empty or has a NUL.
    #[error("{:?} can't be a symlink's target", .0.escape_ascii().to_string())]
    Target(Vec<u8>),
    /// Directories lie too deep within each other.
    #[error("more than {MAX_DEPTH} directories within each other")]
    TooDeep,
    /// Something follows the end.
    #[error("bytes follow the end of the NAR")]
    TrailingBytes,
    /// The NAR ends before it is complete.
    #[error("the NAR is cut off")]
    CutOff,
    /// The decoder was used again after an error.
    #[error("the decoder had already met an error")]
    AfterError,
}
