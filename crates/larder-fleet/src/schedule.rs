//! When the fleet is built: what is due, what was begun, and what became of it.
//!
//! Promises that each due time is begun at most once, whatever ends the server or the run in between: a run is written
//! down before it is started, and one that ended without a word is resumed. Times that passed while nobody looked
//! are one run, not several. It deliberately starts nothing, and never asks what time it is.

mod calendar;
mod due;
mod ending;
mod memory;
pub mod output;
mod step;

pub use calendar::{Calendar, CalendarError};
pub use due::{Look, Moment, Schedule};
pub use ending::{Ending, EndingError, take_back};
pub use memory::{Memory, MemoryError, Remembered, Run};
pub use step::{Fate, MOST_TRIES, Step};
