//! Reading NARs, from pieces cut anywhere.
//!
//! Promise: a hostile NAR costs no memory beyond the names of the directories it is in and one
//! symlink target, each of bounded length. Contents are passed through, not copied. The decoder
//! stops at the first byte that Nix would not have written, and says where that was.

use super::encode::padding;
use super::error::{NarError, NarErrorKind};
use super::event::Event;
use super::{MAX_DEPTH, MAX_NAME_LEN, MAX_TARGET_LEN};

/// The longest of the words a NAR is made of, `nix-archive-1`.
const MAX_WORD_LEN: usize = 13;

/// A decoder that takes a NAR in pieces.
///
/// ```
/// use larder_formats::nar::{Decoder, Encoder, Event};
///
/// let mut nar = Vec::new();
/// let mut encoder = Encoder::new(&mut nar);
/// encoder.magic();
/// encoder.symlink(b"/etc");
///
/// let mut decoder = Decoder::new();
/// let mut targets = 0;
/// for mut piece in nar.chunks(7) {
///     while let Some(event) = decoder.next_event(&mut piece)? {
///         targets += usize::from(event == Event::Symlink { target: b"/etc" });
///     }
/// }
/// decoder.finish()?;
/// assert_eq!(targets, 1);
/// # Ok::<(), larder_formats::nar::NarError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    state: State,
    offset: u64,
    token: Token,
    /// The open directories: where in `names` the name seen last in each begins.
    directories: Vec<usize>,
    /// The names seen last of all open directories, one after the other.
    names: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    NodeOpen,
    TypeWord,
    Type,
    /// `contents`, or `executable` where that is still possible.
    RegularWord {
        executable: bool,
    },
    ExecutableValue,
    Size {
        executable: bool,
    },
    Contents {
        left: u64,
        padding: u8,
    },
    ContentsPadding {
        left: u8,
    },
    RegularClose,
    TargetWord,
    Target,
    SymlinkClose,
    /// `entry` or `)`.
    DirectoryWord,
    EntryOpen,
    NameWord,
    Name,
    NodeWord,
    EntryClose,
    /// The root is complete, which has not been said yet.
    End,
    Done,
    Failed,
}

/// A string that is being collected.
#[derive(Debug, Default)]
struct Token {
    /// The 8 bytes of the length, then the string, and no padding.
    bytes: Vec<u8>,
    len: u64,
    /// How many of length, string and padding have been taken.
    taken: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the start of a NAR.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Magic,
            offset: 0,
            token: Token::default(),
            directories: Vec::new(),
            names: Vec::new(),
        }
    }

    /// How many bytes of the NAR have been taken.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the NAR is complete, [`Event::End`] having been returned.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == State::Done
    }

    /// How many bytes of memory the decoder holds on the heap: bounded by a constant (below
    /// 2 MiB), and by a small multiple of what it was given.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.token.bytes.capacity()
            + self.names.capacity()
            + self.directories.capacity() * size_of::<usize>()
    }

    /// Takes bytes from the front of `input` up to the next event. `None` means that `input` is
    /// used up; call again with the next piece.
    ///
    /// # Errors
    /// [`NarError`], after which the decoder can't go on.
    pub fn next_event<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a>>, NarError> {
        loop {
            match self.state {
                State::End => {
                    self.state = State::Done;
                    return Ok(Some(Event::End));
                }
                State::Failed => return Err(self.fail(NarErrorKind::AfterError)),
                _ if input.is_empty() => return Ok(None),
                State::Done => return Err(self.fail(NarErrorKind::TrailingBytes)),
                State::Contents { left, padding } => {
                    return Ok(Some(self.contents(input, left, padding)));
                }
                State::ContentsPadding { left } => self.contents_padding(input, left)?,
                State::Size { executable } => {
                    if let Some(size) = self.size(input)? {
                        let offset = self.offset;
                        return Ok(Some(Event::RegularStart { executable, size, offset }));
                    }
                }
                state => {
                    if self.collect(input, state)? {
                        self.token.taken = 0;
                        match self.word(state).map_err(|kind| self.fail(kind))? {
                            Step::On => {}
                            Step::Said(said) => return Ok(Some(self.said(said))),
                        }
                    }
                }
            }
        }
    }

    /// Says that no bytes will follow.
    ///
    /// # Errors
    /// [`NarErrorKind::CutOff`] unless [`Event::End`] has been returned.
    pub fn finish(&self) -> Result<(), NarError> {
        match self.state {
            State::Done => Ok(()),
            State::Failed => Err(NarError { offset: self.offset, kind: NarErrorKind::AfterError }),
            _ => Err(NarError { offset: self.offset, kind: NarErrorKind::CutOff }),
        }
    }

    fn fail(&mut self, kind: NarErrorKind) -> NarError {
        self.state = State::Failed;
        NarError { offset: self.offset, kind }
    }

    fn contents<'i>(&mut self, input: &mut &'i [u8], left: u64, padding: u8) -> Event<'i> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let (contents, rest) = input.split_at(here);
        *input = rest;
        self.offset += here as u64;
        self.state = State::after_contents(left - here as u64, padding);
        Event::Content(contents)
    }

    fn contents_padding(&mut self, input: &mut &[u8], left: u8) -> Result<(), NarError> {
        let here = usize::from(left).min(input.len());
        let (zeros, rest) = input.split_at(here);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.fail(NarErrorKind::Padding));
        }
        *input = rest;
        self.offset += here as u64;
        self.state = match usize::from(left) - here {
            0 => State::RegularClose,
            _ => State::ContentsPadding { left: left - here as u8 },
        };
        Ok(())
    }

    /// The length before a file's contents, once it is complete.
    fn size(&mut self, input: &mut &[u8]) -> Result<Option<u64>, NarError> {
        self.offset += self.token.take_len(input);
        if self.token.taken < 8 {
            return Ok(None);
        }
        let size = self.token.len;
        self.token.taken = 0;
        // Room is left for the padding and the closing parenthesis, too.
        if self.offset.checked_add(size).and_then(|end| end.checked_add(32)).is_none() {
            return Err(self.fail(NarErrorKind::FileTooLarge(size)));
        }
        self.state = State::after_contents(size, padding(size) as u8);
        Ok(Some(size))
    }

    /// Takes more of the string that is due; true once it is complete.
    fn collect(&mut self, input: &mut &[u8], state: State) -> Result<bool, NarError> {
        if self.token.taken < 8 {
            self.offset += self.token.take_len(input);
            if self.token.taken < 8 {
                return Ok(false);
            }
            let (what, limit) = state.limit();
            let len = self.token.len;
            if len > limit as u64 {
                return Err(self.fail(NarErrorKind::TooLong { what, len, limit }));
            }
        }
        let token = &mut self.token;
        if token.taken < 8 + token.len {
            let here = input.len().min((8 + token.len - token.taken) as usize);
            let (bytes, rest) = input.split_at(here);
            token.bytes.extend_from_slice(bytes);
            token.taken += here as u64;
            self.offset += here as u64;
            *input = rest;
        }
        let end = 8 + token.len + padding(token.len);
        if token.taken >= 8 + token.len && token.taken < end {
            let here = input.len().min((end - token.taken) as usize);
            let (zeros, rest) = input.split_at(here);
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(self.fail(NarErrorKind::Padding));
            }
            token.taken += here as u64;
            self.offset += here as u64;
            *input = rest;
        }
        Ok(token.taken == end)
    }

    /// Acts on a complete string.
    fn word(&mut self, state: State) -> Result<Step, NarErrorKind> {
        let token = self.token.bytes.as_slice();
        let next = match (state, token) {
            (State::Magic, b"nix-archive-1") => State::NodeOpen,
            (State::NodeOpen, b"(") => State::TypeWord,
            (State::TypeWord, b"type") => State::Type,
            (State::Type, b"regular") => State::RegularWord { executable: false },
            (State::Type, b"symlink") => State::TargetWord,
            (State::Type, b"directory") => return self.open_directory(),
            (State::RegularWord { executable: false }, b"executable") => State::ExecutableValue,
            (State::RegularWord { executable }, b"contents") => State::Size { executable },
            (State::ExecutableValue, b"") => State::RegularWord { executable: true },
            (State::RegularClose, b")") => {
                self.state = self.after_node();
                return Ok(Step::Said(Said::RegularEnd));
            }
            (State::TargetWord, b"target") => State::Target,
            (State::Target, target) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(NarErrorKind::Target(target.to_vec()));
                }
                self.state = State::SymlinkClose;
                return Ok(Step::Said(Said::Symlink));
            }
            (State::SymlinkClose, b")") => self.after_node(),
            (State::DirectoryWord, b"entry") => State::EntryOpen,
            (State::DirectoryWord, b")") => {
                self.names.truncate(self.directories.pop().unwrap_or(0));
                self.state = self.after_node();
                return Ok(Step::Said(Said::DirectoryEnd));
            }
            (State::EntryOpen, b"(") => State::NameWord,
            (State::NameWord, b"name") => State::Name,
            (State::Name, _) => {
                self.name()?;
                self.state = State::NodeWord;
                return Ok(Step::Said(Said::Entry));
            }
            (State::NodeWord, b"node") => State::NodeOpen,
            (State::EntryClose, b")") => State::DirectoryWord,
            (state, found) => {
                let expected = state.expected();
                return Err(NarErrorKind::Unexpected { expected, found: found.to_vec() });
            }
        };
        self.state = next;
        Ok(Step::On)
    }

    fn open_directory(&mut self) -> Result<Step, NarErrorKind> {
        if self.directories.len() == MAX_DEPTH {
            return Err(NarErrorKind::TooDeep);
        }
        self.directories.push(self.names.len());
        self.state = State::DirectoryWord;
        Ok(Step::Said(Said::DirectoryStart))
    }

    /// Checks the name just collected and keeps it as the last of the innermost directory.
    fn name(&mut self) -> Result<(), NarErrorKind> {
        let name = self.token.bytes.as_slice();
        let forbidden = |byte: &u8| *byte == b'/' || *byte == 0;
        if matches!(name, b"" | b"." | b"..") || name.iter().any(forbidden) {
            return Err(NarErrorKind::Name(name.to_vec()));
        }
        let start = self.directories.last().copied().unwrap_or(0);
        let previous = self.names.get(start..).unwrap_or_default();
        if name <= previous {
            return Err(NarErrorKind::Order { name: name.to_vec(), previous: previous.to_vec() });
        }
        self.names.truncate(start);
        self.names.extend_from_slice(name);
        Ok(())
    }

    const fn after_node(&self) -> State {
        if self.directories.is_empty() { State::End } else { State::EntryClose }
    }

    fn said(&self, said: Said) -> Event<'_> {
        match said {
            Said::RegularEnd => Event::RegularEnd,
            Said::Symlink => Event::Symlink { target: &self.token.bytes },
            Said::DirectoryStart => Event::DirectoryStart,
            Said::Entry => Event::Entry { name: &self.token.bytes },
            Said::DirectoryEnd => Event::DirectoryEnd,
        }
    }
}

/// What a complete string leads to.
enum Step {
    On,
    Said(Said),
}

/// An event before it borrows its bytes.
enum Said {
    RegularEnd,
    Symlink,
    DirectoryStart,
    Entry,
    DirectoryEnd,
}

impl Token {
    /// Takes more of the length; says how many bytes that was.
    fn take_len(&mut self, input: &mut &[u8]) -> u64 {
        if self.taken == 0 {
            self.len = 0;
            self.bytes.clear();
            if let Some((len, rest)) = input.split_first_chunk::<8>() {
                self.len = u64::from_le_bytes(*len);
                self.taken = 8;
                *input = rest;
                return 8;
            }
        }
        let before = self.taken;
        while self.taken < 8
            && let Some((byte, rest)) = input.split_first()
        {
            self.len |= u64::from(*byte) << (8 * self.taken);
            self.taken += 1;
            *input = rest;
        }
        self.taken - before
    }
}

impl State {
    const fn after_contents(left: u64, padding: u8) -> Self {
        match (left, padding) {
            (0, 0) => Self::RegularClose,
            (0, left) => Self::ContentsPadding { left },
            (left, padding) => Self::Contents { left, padding },
        }
    }

    /// What the string that is due is, and how long it may be.
    const fn limit(self) -> (&'static str, usize) {
        match self {
            Self::Name => ("a name", MAX_NAME_LEN),
            Self::Target => ("a symlink's target", MAX_TARGET_LEN),
            other => (other.expected(), MAX_WORD_LEN),
        }
    }

    const fn expected(self) -> &'static str {
        match self {
            Self::Magic => "`nix-archive-1`",
            Self::NodeOpen | Self::EntryOpen => "`(`",
            Self::TypeWord => "`type`",
            Self::Type => "`regular`, `symlink` or `directory`",
            Self::RegularWord { executable: false } => "`executable` or `contents`",
            Self::RegularWord { executable: true } | Self::Size { .. } => "`contents`",
            Self::ExecutableValue => "an empty string after `executable`",
            Self::TargetWord => "`target`",
            Self::DirectoryWord => "`entry` or `)`",
            Self::NameWord => "`name`",
            Self::NodeWord => "`node`",
            Self::RegularClose | Self::SymlinkClose | Self::EntryClose => "`)`",
            Self::Name => "a name",
            Self::Target => "a target",
            Self::Contents { .. } | Self::ContentsPadding { .. } => "contents",
            Self::End | Self::Done | Self::Failed => "the end",
        }
    }
}
