//! A deadline that is set often and reached rarely.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline. Setting it only notes the time: the timer beneath is moved when it rings too early,
/// once in a while, and not with every request.
#[derive(Default)]
pub(super) struct Alarm {
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Rings that long from now.
    pub(super) fn set(&mut self, after: Duration) {
        self.deadline = Some(Instant::now() + after);
    }

    pub(super) fn clear(&mut self) {
        self.deadline = None;
    }

    pub(super) fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready when the deadline has passed. One that is not set never does.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}
