//! What a NAR consists of, one event after the other.

/// A step through a NAR. Names and targets are bytes, as file names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A regular file begins; its contents follow as [`Event::Content`] (none when empty).
    RegularStart {
        /// Whether it may be executed.
        executable: bool,
        /// The size of its contents in bytes, as claimed.
        size: u64,
        /// Where its contents begin, in bytes from the start of the NAR (`narOffset` of a listing).
        offset: u64,
    },
    /// The next part of a file's contents, never empty: a slice of the input, not a copy.
    Content(&'a [u8]),
    /// The regular file is complete: all its contents were seen, and the padding was zeros.
    RegularEnd,
    /// A symlink.
    Symlink {
        /// Where it points, 1 to 4095 bytes without NUL.
        target: &'a [u8],
    },
    /// A directory begins; its entries follow.
    DirectoryStart,
    /// An entry of the directory begun last that has not ended; the next event begins its node.
    Entry {
        /// Its name: 1 to 255 bytes without `/` or NUL, neither `.` nor `..`.
        name: &'a [u8],
    },
    /// The directory is complete.
    DirectoryEnd,
    /// The NAR is complete. Nothing may follow.
    End,
}
