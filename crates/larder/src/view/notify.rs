//! How it goes with receivers of notices.

use larder_fleet::notify::SendError;

use super::text::count;
use crate::{report::Error, word::Delivered};

/// What became of what waited for a receiver, where that is worth a line.
pub(crate) fn delivered(name: &str, delivered: &Delivered) -> Option<String> {
    let delivery = match delivered {
        Ok(delivery) => delivery,
        Err(error) => return Some(format!("{name} is told later: {error}")),
    };
    let dropped = match delivery.dropped {
        0 => String::new(),
        dropped => format!(
            "; {} dropped, and what still holds of it is told after the next run",
            count(dropped, "message")
        ),
    };
    match &delivery.error {
        Some(error @ SendError::Refused(_)) => {
            Some(format!("{name} cannot be told: {error}{dropped}"))
        }
        Some(error) => Some(format!("{name} is told later: {error}{dropped}")),
        None if delivery.dropped > 0 => {
            Some(format!("{name} was not reached for too long{dropped}"))
        }
        None if delivery.sent > 0 => Some(format!("{name} was told")),
        None => None,
    }
}

/// How a test went.
pub(crate) fn tested(name: &str, went: &Result<(), Error>) -> String {
    match went {
        Ok(()) => format!("{name}: took the message"),
        Err(error) => format!("{name}: {error}"),
    }
}
