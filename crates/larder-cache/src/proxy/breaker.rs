//! Whether an upstream is worth asking: what is known of its health, as a value that is told of successes and
//! failures, and of the time.
//!
//! Nobody waits for one that is known to be dead. That it lives again is found out by asking it what it is
//! (`nix-cache-info`), and not at the cost of somebody who wants a path.

use std::time::Duration;

use tokio::time::Instant;

/// Failures one after the other that end the trust in an upstream. One may be the fault of a single path.
const FAILURES: u32 = 3;

/// Until a dead upstream is probed for the first time; twice as long after each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long it takes at most until one that lives again is found out.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long an upstream is left alone at most because it asks for that.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What is known of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet: somebody else may answer in its place.
    Unproven,
    /// It answered as a cache does.
    Proven,
    /// It did, in another network.
    Suspect,
    /// It did not, and is not asked until then; perhaps because it wants that.
    Broken { until: Instant, pause: Duration, asked: bool },
}

/// The same for people and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// It was not asked yet.
    Unproven,
    /// It answers.
    Up,
    /// It does not, and is not asked but to see whether it does again.
    Down,
}

impl Breaker {
    /// Nothing is known yet.
    pub(super) const NEW: Self = Self { state: State::Unproven, failures: 0 };

    /// Whether it may be asked for paths.
    pub(super) fn may_ask(&self) -> bool {
        !matches!(self.state, State::Broken { .. })
    }

    /// Whether what it says it has not, it has not.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven | State::Suspect)
    }

    /// When it should be asked what it is; nothing where there is no need.
    pub(super) fn probe_at(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Unproven | State::Suspect => Some(now),
            State::Proven => None,
            State::Broken { until, .. } => Some(until),
        }
    }

    /// It answered as only this cache can.
    pub(super) fn succeeded(&mut self) {
        *self = Self { state: State::Proven, failures: 0 };
    }

    /// It did not answer, or not as a cache does; perhaps it asked to be left alone for so long. Says whether it is
    /// not asked any more from now on.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>) -> bool {
        self.failures = self.failures.saturating_add(1);
        // Those who asked before it was given up tell nothing new.
        if !self.may_ask() || (asked.is_none() && self.failures < FAILURES) {
            return false;
        }
        self.give_up(now, FIRST_PAUSE, asked);
        true
    }

    /// It was asked what it is, and did not say that.
    pub(super) fn probe_failed(&mut self, now: Instant, asked: Option<Duration>) {
        let pause = match self.state {
            State::Broken { pause, .. } => (pause * 2).min(LONGEST_PAUSE),
            State::Unproven | State::Proven | State::Suspect => FIRST_PAUSE,
        };
        self.give_up(now, pause, asked);
    }

    /// The network is another one. Many a machine's network changes every minute and makes no difference to us, so
    /// who answered is believed until it is known better; and who asked to be left alone is.
    pub(super) fn doubt(&mut self) {
        self.state = match self.state {
            State::Proven | State::Suspect => State::Suspect,
            State::Broken { asked: true, .. } => return,
            State::Unproven | State::Broken { .. } => State::Unproven,
        };
        self.failures = 0;
    }

    /// The same in one word.
    pub(super) fn health(&self) -> Health {
        match self.state {
            State::Unproven => Health::Unproven,
            State::Proven | State::Suspect => Health::Up,
            State::Broken { .. } => Health::Down,
        }
    }

    fn give_up(&mut self, now: Instant, pause: Duration, asked: Option<Duration>) {
        let wanted = asked.unwrap_or_default().min(LONGEST_ASKED_PAUSE);
        let until = now + pause.max(wanted);
        self.state = State::Broken { until, pause, asked: asked.is_some() };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Breaker, FAILURES, Health, LONGEST_ASKED_PAUSE, LONGEST_PAUSE};

    fn broken(now: Instant) -> Breaker {
        let mut breaker = Breaker::NEW;
        for number in 1..=FAILURES {
            assert_eq!(breaker.failed(now, None), number == FAILURES);
        }
        breaker
    }

    #[test]
    fn one_failure_says_nothing_and_some_in_a_row_do() {
        let now = Instant::now();
        let mut breaker = Breaker::NEW;
        for _ in 0..10 {
            breaker.failed(now, None);
            breaker.failed(now, None);
            assert!(breaker.may_ask());
            breaker.succeeded();
            assert!(breaker.is_proven());
        }
        assert!(!broken(now).may_ask());
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let now = Instant::now();
        let mut breaker = Breaker::NEW;
        assert!(breaker.failed(now, Some(Duration::from_secs(30))));
        assert_eq!(breaker.probe_at(now), Some(now + Duration::from_secs(30)));
        let mut breaker = Breaker::NEW;
        breaker.failed(now, Some(Duration::MAX));
        assert_eq!(breaker.probe_at(now), Some(now + LONGEST_ASKED_PAUSE));
    }

    #[test]
    fn a_changed_network_is_a_new_beginning() {
        let now = Instant::now();
        let mut breaker = broken(now);
        for _ in 0..20 {
            breaker.probe_failed(now, None);
        }
        assert_eq!(breaker.probe_at(now), Some(now + LONGEST_PAUSE));
        breaker.doubt();
        assert_eq!((breaker.probe_at(now), breaker.health()), (Some(now), Health::Unproven));
        assert!(breaker.may_ask() && !breaker.is_proven());
    }

    #[test]
    fn a_changed_network_wrongs_nobody() {
        let now = Instant::now();
        let mut breaker = Breaker::NEW;
        breaker.succeeded();
        breaker.doubt();
        assert!(breaker.is_proven() && breaker.may_ask(), "it is likely to live");
        assert_eq!(breaker.probe_at(now), Some(now), "and to be asked");
        breaker.probe_failed(now, Some(Duration::from_secs(60)));
        breaker.doubt();
        assert!(!breaker.may_ask(), "it wants to be left alone");
    }

    proptest! {
        #[test]
        fn it_is_never_given_up_for_good(steps in prop::collection::vec(0..4_u8, 0..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::NEW;
            for step in steps {
                now += Duration::from_secs(u64::from(step));
                match step {
                    0 => { breaker.failed(now, None); }
                    1 => breaker.probe_failed(now, None),
                    2 => breaker.probe_failed(now, Some(Duration::from_secs(5))),
                    _ => breaker.succeeded(),
                }
                // Either it may be asked, or it is probed within a minute.
                let soon = breaker.probe_at(now).is_some_and(|at| at <= now + LONGEST_PAUSE);
                prop_assert!(breaker.may_ask() || soon);
            }
        }
    }
}
