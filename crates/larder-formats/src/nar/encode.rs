//! Writing NARs, piece by piece.
//!
//! Promise: every piece has a length that can be computed without writing it, so that a place in
//! a NAR is found by adding up. The caller sends the contents of files itself, between
//! [`Encoder::regular_start`] and [`Encoder::regular_end`], and sees to the order of entries.

/// The length in bytes of [`Encoder::magic`].
pub const MAGIC_LEN: u64 = token_len(13);

/// The length in bytes of [`Encoder::directory_start`].
pub const DIRECTORY_PREFIX_LEN: u64 = token_len(1) + token_len(4) + token_len(9);

/// The length in bytes of [`Encoder::directory_end`].
pub const DIRECTORY_SUFFIX_LEN: u64 = token_len(1);

/// The length in bytes of [`Encoder::entry_end`].
pub const ENTRY_SUFFIX_LEN: u64 = token_len(1);

/// The length in bytes of what follows the padding of a file: its closing parenthesis.
pub const REGULAR_CLOSE_LEN: u64 = token_len(1);

/// The length in bytes of [`Encoder::regular_start`].
#[must_use]
pub const fn regular_prefix_len(executable: bool) -> u64 {
    let marker = if executable { token_len(10) + token_len(0) } else { 0 };
    token_len(1) + token_len(4) + token_len(7) + marker + token_len(8) + 8
}

/// The length in bytes of [`Encoder::regular_end`]: padding and closing.
#[must_use]
pub const fn regular_suffix_len(size: u64) -> u64 {
    padding(size) + REGULAR_CLOSE_LEN
}

/// The length in bytes of a whole file's node. Saturates: no file is that large.
#[must_use]
pub const fn regular_len(executable: bool, size: u64) -> u64 {
    regular_prefix_len(executable).saturating_add(size).saturating_add(regular_suffix_len(size))
}

/// The length in bytes of [`Encoder::symlink`], by the target's length.
#[must_use]
pub const fn symlink_len(target_len: usize) -> u64 {
    token_len(1)
        + token_len(4)
        + token_len(7)
        + token_len(6)
        + token_len(target_len as u64)
        + token_len(1)
}

/// The length in bytes of [`Encoder::entry_start`], by the name's length.
#[must_use]
pub const fn entry_prefix_len(name_len: usize) -> u64 {
    token_len(5) + token_len(1) + token_len(4) + token_len(name_len as u64) + token_len(4)
}

/// How many zeros follow `size` bytes: 0 to 7.
#[must_use]
pub const fn padding(size: u64) -> u64 {
    (8 - size % 8) % 8
}

/// Appends the pieces of a NAR to a buffer, which the caller empties as it likes.
///
/// A whole NAR is [`magic`](Self::magic) and a node. A node is [`symlink`](Self::symlink); or
/// [`regular_start`](Self::regular_start), the contents, [`regular_end`](Self::regular_end); or
/// [`directory_start`](Self::directory_start), entries in ascending order of their bytes (each
/// [`entry_start`](Self::entry_start), a node, [`entry_end`](Self::entry_end)), and
/// [`directory_end`](Self::directory_end).
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    #[must_use]
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// What every NAR begins with.
    pub fn magic(&mut self) {
        self.token(b"nix-archive-1");
    }

    /// All of a regular file before its contents of `size` bytes.
    pub fn regular_start(&mut self, executable: bool, size: u64) {
        self.token(b"(");
        self.token(b"type");
        self.token(b"regular");
        if executable {
            self.token(b"executable");
            self.token(b"");
        }
        self.token(b"contents");
        self.out.extend_from_slice(&size.to_le_bytes());
    }

    /// All of a regular file after its contents of `size` bytes.
    pub fn regular_end(&mut self, size: u64) {
        self.padding(size);
        self.token(b")");
    }

    /// The zeros after `size` bytes of contents alone; [`Encoder::regular_end`] has them too.
    pub fn padding(&mut self, size: u64) {
        const ZEROS: [u8; 7] = [0; 7];
        self.out.extend(ZEROS.iter().take(usize::from(padding(size) as u8)));
    }

    /// A whole symlink.
    pub fn symlink(&mut self, target: &[u8]) {
        self.token(b"(");
        self.token(b"type");
        self.token(b"symlink");
        self.token(b"target");
        self.token(target);
        self.token(b")");
    }

    /// All of a directory before its entries.
    pub fn directory_start(&mut self) {
        self.token(b"(");
        self.token(b"type");
        self.token(b"directory");
    }

    /// All of an entry before its node.
    pub fn entry_start(&mut self, name: &[u8]) {
        self.token(b"entry");
        self.token(b"(");
        self.token(b"name");
        self.token(name);
        self.token(b"node");
    }

    /// All of an entry after its node.
    pub fn entry_end(&mut self) {
        self.token(b")");
    }

    /// All of a directory after its entries.
    pub fn directory_end(&mut self) {
        self.token(b")");
    }

    fn token(&mut self, bytes: &[u8]) {
        let len = bytes.len() as u64;
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(bytes);
        self.padding(len);
    }
}

/// The length of a string with its length before and its padding after it.
const fn token_len(len: u64) -> u64 {
    8 + len + padding(len)
}
