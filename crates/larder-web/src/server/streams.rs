//! The answers under way on one HTTP/2 connection, and when they last moved.
//!
//! Bytes alone do not tell here whether a reader takes its answers: it may keep the connection busy and
//! one stream waiting. So each answer notes when it last gave something. One that stands still for too long
//! is ended by itself; the connection, when nothing on it moves any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use hyper::rt::Executor;
use tokio::{
    sync::Notify,
    task_local,
    time::{Instant, sleep, sleep_until},
};

use super::{limits::Limits, phase::Shared};

task_local! {
    /// The answer that a task gives.
    static STREAM: Stream;
}

/// The answers of one connection; runs each of them as a task of its own.
#[derive(Clone)]
pub(super) struct Streams(Arc<Connection>);

struct Connection {
    limits: Limits,
    state: Mutex<State>,
    /// The first answer began, or the last ended: another limit applies.
    turned: Notify,
}

struct State {
    /// Answers that are given, or of which something waits to be sent.
    under_way: usize,
    /// Whether anything was asked yet.
    used: bool,
    /// When an answer last began, moved or ended.
    moved: Instant,
}

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// None of its answers moved for too long.
    Stalled,
    /// Nothing was asked for too long.
    Idle,
}

impl Streams {
    /// Those of a connection that begins.
    pub(super) fn new(limits: &Limits) -> Self {
        let state = State { under_way: 0, used: false, moved: Instant::now() };
        let turned = Notify::new();
        Self(Arc::new(Connection { limits: limits.clone(), state: Mutex::new(state), turned }))
    }

    /// The answer that this task gives; it is under way as long as what this returns lives.
    pub(super) fn of_this_task(&self) -> Stream {
        STREAM.try_with(Stream::clone).unwrap_or_else(|_| self.begin())
    }

    fn begin(&self) -> Stream {
        let now = Instant::now();
        let mut state = self.state();
        state.under_way += 1;
        state.used = true;
        state.moved = now;
        if state.under_way == 1 {
            self.0.turned.notify_one();
        }
        Stream(Arc::new(One { moved: Mutex::new(now), streams: self.clone() }))
    }

    /// Waits until the connection must end. Looks when that may be so at the earliest, not at every move.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            let (deadline, overdue) = self.deadline();
            if deadline <= Instant::now() {
                return overdue;
            }
            tokio::select! {
                () = sleep_until(deadline) => {}
                () = self.0.turned.notified() => {}
            }
        }
    }

    /// Waits until a connection can be given up that was told to end and does not: nothing was asked for
    /// the time of a last call, and all was taken; or its reader takes nothing.
    pub(super) async fn over(&self, written: &Shared) -> Overdue {
        loop {
            sleep(self.0.limits.last_call).await;
            let (deadline, overdue) = self.deadline();
            let quiet = self.state().moved + self.0.limits.last_call;
            let now = Instant::now();
            match overdue {
                Overdue::Stalled if deadline <= now => return overdue,
                Overdue::Idle if quiet <= now && !written.waits() => return overdue,
                Overdue::Stalled | Overdue::Idle => {}
            }
        }
    }

    fn deadline(&self) -> (Instant, Overdue) {
        let (state, limits) = (self.state(), &self.0.limits);
        match *state {
            State { under_way: 1.., moved, .. } => (moved + limits.stall, Overdue::Stalled),
            State { used: true, moved, .. } => (moved + limits.idle, Overdue::Idle),
            State { used: false, moved, .. } => (moved + limits.head, Overdue::Idle),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answering: F) {
        let stream = self.begin();
        tokio::spawn(async move {
            let standstill = stream.clone();
            // The answer looks first, and says so to its reader. One that waits for leave to send
            // anything does not look; it is dropped, which is told to the reader as well.
            tokio::select! {
                biased;
                () = STREAM.scope(stream, answering) => {}
                () = standstill.stalled() => {}
            }
        });
    }
}

/// An answer under way.
#[derive(Clone)]
pub(super) struct Stream(Arc<One>);

struct One {
    moved: Mutex<Instant>,
    streams: Streams,
}

impl Stream {
    /// Notes that its reader has made room for more.
    pub(super) fn moved(&self) {
        let now = Instant::now();
        *self.0.moved.lock().unwrap_or_else(PoisonError::into_inner) = now;
        self.0.streams.state().moved = now;
    }

    /// Whether it has not moved for too long.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalls_at() <= Instant::now()
    }

    /// The same bytes; until they are sent, the answer is under way.
    pub(super) fn hold(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _stream: self.clone() })
    }

    async fn stalled(&self) {
        while !self.is_stalled() {
            sleep_until(self.stalls_at()).await;
        }
    }

    fn stalls_at(&self) -> Instant {
        let moved = *self.0.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved + self.0.streams.0.limits.stall
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut state = self.streams.state();
        state.under_way = state.under_way.saturating_sub(1);
        state.moved = Instant::now();
        if state.under_way == 0 {
            self.streams.0.turned.notify_one();
        }
    }
}

/// Bytes of an answer.
struct Held {
    bytes: Bytes,
    _stream: Stream,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::sync::oneshot;

    use super::*;

    fn streams() -> Streams {
        Streams::new(&Limits {
            head: Duration::from_secs(30),
            stall: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            ..Limits::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_that_does_not_move_is_ended_and_the_connection_is_not() {
        let (streams, start) = (streams(), Instant::now());
        let moving = streams.begin();
        let (stuck, ended) = oneshot::channel::<()>();
        streams.execute(async move {
            pending::<()>().await;
            drop(stuck);
        });
        let keep_moving = async {
            loop {
                sleep(Duration::from_secs(10)).await;
                moving.moved();
            }
        };
        tokio::select! {
            _ = streams.overdue() => unreachable!(),
            _ = ended => assert_eq!(start.elapsed().as_secs(), 300),
            () = keep_moving => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_stalled() {
        let (streams, start) = (streams(), Instant::now());
        let _stuck = [streams.begin(), streams.begin()];
        assert_eq!((streams.overdue().await, start.elapsed().as_secs()), (Overdue::Stalled, 300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_answers_is_idle_from_the_last_one_on() {
        let (streams, start) = (streams(), Instant::now());
        let answer = streams.begin();
        let unsent = answer.hold(Bytes::from_static(b"unsent"));
        sleep(Duration::from_secs(30)).await;
        drop(answer);
        sleep(Duration::from_secs(30)).await;
        drop(unsent);
        assert_eq!((streams.overdue().await, start.elapsed().as_secs()), (Overdue::Idle, 180));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_was_ever_asked_has_less_time() {
        let (streams, start) = (streams(), Instant::now());
        assert_eq!((streams.overdue().await, start.elapsed().as_secs()), (Overdue::Idle, 30));
    }
}
