//! What is wrong with a configuration, as people read it: where, what, and what to do.
//!
//! Promises that an excerpt never sends control characters to a terminal and never repeats a
//! secret. It deliberately does not know what a configuration may say.

use std::fmt;
use std::ops::Range;

/// The widest piece of a line that an excerpt shows, in characters.
const EXCERPT_WIDTH: usize = 96;

/// Why a value was refused, by the code that read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ValueError {
    /// What is wrong with it.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
    /// Whether the value may hold a secret, so that it must not be repeated.
    pub secret: bool,
}

impl ValueError {
    /// A value that may be shown again.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), secret: false }
    }

    /// A value that must not be shown again.
    pub fn secret(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { secret: true, ..Self::new(what, remedy) }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// The line's text and the marks below it; none where it may hold a secret.
    pub excerpt: Option<Excerpt>,
}

/// A piece of a line with marks below what is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    text: String,
    indent: usize,
    marks: usize,
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// What the text is called, usually the file's path.
    pub source_name: String,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {plural} in {}", self.source_name)?;
        for problem in &self.problems {
            let Problem { line, column, what, remedy, excerpt } = problem;
            write!(f, "\n\n{}:{line}:{column}: {what}", self.source_name)?;
            if let Some(Excerpt { text, indent, marks }) = excerpt {
                let number = line.to_string();
                let margin = " ".repeat(number.len());
                let text = text.trim_end();
                write!(f, "\n {number} | {text}\n {margin} | ")?;
                write!(f, "{}{}", " ".repeat(*indent), "^".repeat(*marks))?;
            }
            write!(f, "\n   help: {remedy}")?;
        }
        Ok(())
    }
}

impl Problem {
    /// Takes the excerpt away when its line holds a secret, which another problem has found.
    pub(super) fn hide_beside(&mut self, secret_lines: &[usize]) {
        if secret_lines.contains(&self.line) {
            self.excerpt = None;
        }
    }

    /// A problem with the bytes `span` of `text`. A span outside of the text means its end.
    pub(super) fn at(text: &str, span: &Range<usize>, error: ValueError) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = text.floor_char_boundary(span.end).clamp(start, line_end);
        let before = text[line_start..start].chars().count();
        let marks = text[start..end].chars().count().max(1);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: before + 1,
            what: error.what,
            remedy: error.remedy,
            excerpt: (!error.secret)
                .then(|| Excerpt::of(&text[line_start..line_end], before, marks)),
        }
    }
}

impl Excerpt {
    /// A long line is cut around the marks, so that one value cannot fill the screen.
    fn of(line: &str, before: usize, marks: usize) -> Self {
        let skipped = if before > EXCERPT_WIDTH / 2 { before - EXCERPT_WIDTH / 4 } else { 0 };
        let piece: String = harmless(line).chars().skip(skipped).take(EXCERPT_WIDTH).collect();
        let cut_before = if skipped > 0 { "…" } else { "" };
        let cut_after = if line.chars().count() > skipped + EXCERPT_WIDTH { "…" } else { "" };
        let indent = before - skipped + cut_before.chars().count();
        let room = EXCERPT_WIDTH.saturating_sub(before - skipped).max(1);
        Self { text: format!("{cut_before}{piece}{cut_after}"), indent, marks: marks.min(room) }
    }
}

/// A value as an error repeats it: between backticks, short, and without control characters.
pub(super) fn quoted(value: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = harmless(value).chars().take(LONGEST).collect();
    if value.chars().count() > LONGEST {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Text that may be repeated: as many characters as before, but what is as long and as dense as a
/// secret key is starred out, wherever in the file somebody put it.
fn harmless(text: &str) -> String {
    const SHORTEST_SECRET: usize = 64;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = rest.find(|c| !is_base64(c)).unwrap_or(rest.len());
        if run >= SHORTEST_SECRET {
            shown.extend(std::iter::repeat_n('*', run));
        } else if run > 0 {
            shown.push_str(&rest[..run]);
        } else {
            shown.push(visible(first));
        }
        rest = &rest[run.max(first.len_utf8())..];
    }
    shown
}

/// One column wide, and harmless to a terminal: neither escapes nor marks that turn the text around.
fn visible(character: char) -> char {
    match character {
        '\t' | '\r' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other if other.is_control() => '\u{fffd}',
        other => other,
    }
}
