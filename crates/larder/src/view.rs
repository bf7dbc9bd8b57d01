//! What people see of a run: a live board on a terminal, plain lines elsewhere, and the summary.

mod board;
pub(crate) mod check;
pub(crate) mod gc;
mod lines;
pub(crate) mod pin;
pub(crate) mod proxy;
pub(crate) mod push;
pub(crate) mod queue;
mod summary;
pub mod upgrade;
pub mod why;

use std::io::IsTerminal;

use larder_fleet::night::Observer;

pub use summary::{json, plan, summary};

/// The view for whatever standard error is.
pub(crate) fn for_this_terminal() -> Box<dyn Observer> {
    if std::io::stderr().is_terminal() {
        Box::new(board::Board::new())
    } else {
        Box::new(lines::Lines)
    }
}

/// A line for people, beside the results on standard output.
#[expect(clippy::print_stderr, reason = "this is where progress is told")]
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
