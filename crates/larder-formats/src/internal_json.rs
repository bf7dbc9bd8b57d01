//! What Nix writes to standard error with `--log-format internal-json`.
//!
//! Promise: every line is something. Lines that are not `@nix {…}`, or not as we know them, stay
//! the plain lines they are, so no output of a build is lost. Numbers of activities and results are
//! those of `logging.hh` in Nix; unknown ones are kept.

use std::borrow::Cow;

use serde::Deserialize;

/// One line of standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// Something Nix reports.
    Event(Event),
    /// Anything else, as it was.
    Plain(&'a str),
}

/// Something Nix reports. Ids are unique among the Nix processes of a machine (the process id in
/// the upper 32 bits), and use all 64 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An activity begins.
    Start {
        /// The activity.
        id: u64,
        /// Verbosity: 0 error, 1 warning, 2 notice, 3 information, up to 7.
        level: u64,
        /// What kind of activity.
        kind: ActivityKind,
        /// A text for people, often empty.
        text: String,
        /// The activity it is part of; 0 for none.
        parent: u64,
        /// Details, by kind.
        fields: Vec<Field>,
    },
    /// An activity ends.
    Stop {
        /// The activity.
        id: u64,
    },
    /// An activity has got on.
    Result {
        /// The activity.
        id: u64,
        /// What kind of result.
        kind: ResultKind,
        /// Details, by kind.
        fields: Vec<Field>,
    },
    /// A message for people, with ANSI escapes (see [`strip_ansi`]).
    Msg {
        /// Verbosity: 0 error, 1 warning, 2 notice, 3 information, up to 7.
        level: u64,
        /// The message.
        msg: String,
    },
}

/// A detail of an activity or a result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Field {
    /// A number.
    Int(u64),
    /// A text.
    Text(String),
}

impl Field {
    /// The number, if it is one.
    #[must_use]
    pub const fn as_int(&self) -> Option<u64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Text(_) => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Int(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// Numbers with names, and room for those a newer Nix adds.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
            /// One this program does not know, by its number.
            Other(u64),
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for u64 {
            fn from(kind: $name) -> Self {
                match kind {
                    $($name::$variant => $number,)*
                    $name::Other(number) => number,
                }
            }
        }
    };
}

numbered! {
    /// Kinds of activity.
    ActivityKind {
        /// Nothing in particular.
        Unknown = 0,
        /// A path is copied: path, source, destination.
        CopyPath = 100,
        /// A file is fetched: URL.
        FileTransfer = 101,
        /// Everything that is to be realised.
        Realise = 102,
        /// Several paths are copied.
        CopyPaths = 103,
        /// All builds.
        Builds = 104,
        /// One build: derivation, machine (empty for here), 1, 1.
        Build = 105,
        /// The store is optimised.
        OptimiseStore = 106,
        /// Paths are verified.
        VerifyPaths = 107,
        /// A path is substituted: path, substituter.
        Substitute = 108,
        /// A substituter is asked for a path: path, substituter.
        QueryPathInfo = 109,
        /// The post-build hook runs: derivation.
        PostBuildHook = 110,
        /// A build waits for a lock or a free builder.
        BuildWaiting = 111,
        /// A tree is fetched.
        FetchTree = 112,
    }
}

numbered! {
    /// Kinds of result.
    ResultKind {
        /// A file was replaced by a link.
        FileLinked = 100,
        /// A line of a build's output: the line.
        BuildLogLine = 101,
        /// A path is not to be trusted.
        UntrustedPath = 102,
        /// A path is damaged.
        CorruptedPath = 103,
        /// A build enters a phase: its name.
        SetPhase = 104,
        /// How far it is: done, expected, running, failed.
        Progress = 105,
        /// How much is expected: activity kind, number.
        SetExpected = 106,
        /// A line of the post-build hook's output: the line.
        PostBuildLogLine = 107,
        /// What a fetch is doing.
        FetchStatus = 108,
    }
}

/// Reads one line, without its newline. Never fails: what can't be read is [`Line::Plain`].
#[must_use]
pub fn parse_line(line: &str) -> Line<'_> {
    let json = line.strip_prefix("@nix ");
    match json.and_then(|json| serde_json::from_str::<Action>(json).ok()) {
        Some(action) => Line::Event(action.into()),
        None => Line::Plain(line),
    }
}

/// Takes the terminal's escape sequences (colours, hyperlinks) out of a text, and the control
/// characters that could move a cursor. Newlines and tabs stay.
#[must_use]
pub fn strip_ansi(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => skip_escape(&mut characters),
            // CSI and OSC as single characters.
            '\u{9b}' => skip_control_sequence(&mut characters),
            '\u{9d}' => skip_string(&mut characters),
            c if harmless(c) => plain.push(c),
            _ => {}
        }
    }
    Cow::Owned(plain)
}

fn skip_escape(characters: &mut std::str::Chars<'_>) {
    let mut ahead = characters.clone();
    match ahead.next() {
        Some('[') => {
            *characters = ahead;
            skip_control_sequence(characters);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            *characters = ahead;
            skip_string(characters);
        }
        // Other escapes are intermediate characters and one final one, such as `ESC ( B`.
        Some(' '..='/') => {
            let rest = ahead.as_str().trim_start_matches(|c| matches!(c, ' '..='/')).chars();
            *characters = rest;
            characters.next();
        }
        Some('0'..='~') => *characters = ahead,
        // A lone escape must not swallow a letter or a newline.
        Some(_) | None => {}
    }
}

/// Up to and with the final character of a control sequence; a sequence cut off by something that
/// can't belong to it ends before that.
fn skip_control_sequence(characters: &mut std::str::Chars<'_>) {
    let rest = characters.as_str().trim_start_matches(|c| matches!(c, ' '..='?'));
    *characters = rest.chars();
    if rest.starts_with(|c| matches!(c, '@'..='~')) {
        characters.next();
    }
}

/// Up to and with the string terminator (BEL, or `ESC \`), or to the end of the line.
fn skip_string(characters: &mut std::str::Chars<'_>) {
    let text = characters.as_str();
    let end = text.find(['\u{7}', '\u{1b}', '\u{9c}', '\n']).unwrap_or(text.len());
    let rest = &text[end..];
    let rest = rest
        .strip_prefix("\u{1b}\\")
        .or_else(|| rest.strip_prefix(['\u{7}', '\u{9c}']))
        .unwrap_or(rest);
    *characters = rest.chars();
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Action {
    Start {
        id: u64,
        #[serde(default)]
        level: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        text: String,
        #[serde(default)]
        parent: u64,
        #[serde(default)]
        fields: Vec<Field>,
    },
    Stop {
        id: u64,
    },
    Result {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<Field>,
    },
    Msg {
        #[serde(default)]
        level: u64,
        msg: String,
    },
}

impl From<Action> for Event {
    fn from(action: Action) -> Self {
        match action {
            Action::Start { id, level, kind, text, parent, fields } => {
                Self::Start { id, level, kind: kind.into(), text, parent, fields }
            }
            Action::Stop { id } => Self::Stop { id },
            Action::Result { id, kind, fields } => Self::Result { id, kind: kind.into(), fields },
            Action::Msg { level, msg } => Self::Msg { level, msg },
        }
    }
}
