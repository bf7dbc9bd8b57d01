//! Text that is not TOML: the parser's messages made into advice.
//!
//! Promises that one slip is one problem. The parser recovers from a mistake by guessing, and what
//! it guesses leads to further messages that would only hide the cause.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::problem::{ValueError, quoted};

/// A problem and the bytes it is about.
pub(super) type Located = (Range<usize>, ValueError);

/// What was not TOML.
pub(super) struct Mistakes {
    text_len: usize,
    /// Ordered by place.
    found: Vec<Located>,
    /// Lines (as byte ranges) whose values were guessed.
    guessed: Vec<Range<usize>>,
    /// From here on the structure of the file was guessed.
    lost_from: Option<usize>,
}

/// Parses as much as is TOML.
pub(super) fn parse(text: &str) -> (DeTable<'_>, Mistakes) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut mistakes =
        Mistakes { text_len: text.len(), found: Vec::new(), guessed: Vec::new(), lost_from: None };
    let mut errors: Vec<(Range<usize>, Error)> = errors
        .into_iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        mistakes.add(text, span, error.message());
    }
    (root.into_inner(), mistakes)
}

impl Mistakes {
    /// All problems by place, without those that stem from guesses of the parser.
    pub(super) fn merge(self, problems: Vec<Located>) -> Vec<Located> {
        let lost_from = self.lost_from.unwrap_or(usize::MAX);
        let sound = problems.into_iter().filter(|(span, _)| {
            span.end.min(self.text_len) < lost_from
                && !self
                    .guessed
                    .iter()
                    .any(|line| line.start <= span.start && span.start <= line.end)
        });
        let mut all: Vec<Located> = sound.chain(self.found).collect();
        all.sort_by_key(|(span, _)| span.start);
        all
    }

    fn add(&mut self, text: &str, span: Range<usize>, message: &str) {
        let line = line_around(text, span.start);
        if self.lost_from.is_some() || self.guessed.contains(&line) {
            return;
        }
        if ["missing comma", "unclosed", "unexpected `"].iter().any(|it| message.starts_with(it)) {
            self.lost_from = Some(span.start);
            // What is missing belongs after what was written, not before what comes next.
            let before = text.get(..span.start).unwrap_or_default().trim_end().len();
            self.found.push((before..before, advice(message, "")));
            return;
        }
        let written = text.get(span.clone()).unwrap_or_default();
        self.guessed.push(line);
        self.found.push((span, advice(message, written)));
    }
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    start..end
}

fn advice(message: &str, written: &str) -> ValueError {
    if message.starts_with("string values must be quoted") {
        return if written.is_empty() {
            ValueError::new("there is no value after the `=`", "write one, or take the key out")
        } else {
            ValueError::new(
                "text must stand in quotes",
                format!("put quotes around {}", quoted(written)),
            )
        };
    }
    if message.ends_with(" string, expected `\"`") || message.ends_with(" string, expected `'`") {
        return ValueError::new("the closing quote is missing", "put one at the end of the text");
    }
    if message == "duplicate key" {
        let what = format!("{} is there twice", quoted(written));
        return ValueError::new(what, "keep one of them and put everything under it");
    }
    if message.starts_with("unexpected leading zero") {
        return ValueError::new("a number may not start with 0", "take the leading 0 off");
    }
    if message.starts_with("missing comma") {
        let remedy = "put a comma between the values, or a closing bracket after the last one";
        return ValueError::new("a comma or a closing bracket is missing", remedy);
    }
    match message.split_once(", expected ") {
        Some((what, expected)) => ValueError::new(what, format!("TOML wants {expected} here")),
        None => ValueError::new(message, "see https://toml.io for how TOML is written"),
    }
}
