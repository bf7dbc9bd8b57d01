//! What people see of a run: a live board on a terminal, plain lines elsewhere, and the summary.

mod board;
pub mod builders;
pub(crate) mod check;
pub(crate) mod gc;
mod lines;
mod lock;
pub(crate) mod notify;
pub(crate) mod pin;
pub(crate) mod proxy;
pub(crate) mod push;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod schedule;
mod summary;
mod text;
pub mod upgrade;
pub mod why;

use std::io::IsTerminal;

use larder_fleet::night::Observer;

pub use summary::{headline, json, kept, plan, summary};

/// The view for whatever standard error is.
pub(crate) fn for_this_terminal() -> Box<dyn Observer> {
    if std::io::stderr().is_terminal() {
        Box::new(board::Board::new())
    } else {
        Box::new(lines::Lines)
    }
}

/// A text that does nothing to a terminal: colours left out, whatever else a cache, a log or a flake put there written
/// as it is in Rust.
pub(crate) fn plain(text: &str) -> String {
    let text = console::strip_ansi_codes(text);
    let mut plain = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '\n' | '\t' => plain.push(one),
            one if one.is_control() => plain.extend(one.escape_default()),
            one => plain.push(one),
        }
    }
    plain
}

/// A line for people, beside the results on standard output.
#[expect(clippy::print_stderr, reason = "this is where progress is told")]
pub(crate) fn note(text: &str) {
    eprintln!("{}", plain(text));
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_others_wrote_does_nothing_to_a_terminal() {
        assert_eq!(plain("a\tb\n\u{1b}[31mred\u{1b}[0m ü"), "a\tb\nred ü");
        for hostile in ["\u{1b}]0;title\u{7}", "\u{1b}", "\r", "\u{9b}2J", "\u{8}", "\u{1b}[?1049h"]
        {
            assert!(!plain(hostile).chars().any(char::is_control), "{:?}", plain(hostile));
        }
    }
}
