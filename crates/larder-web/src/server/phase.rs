//! What a connection is doing, as its two ends see it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// What a connection is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing was asked yet.
    Unused,
    /// A request has begun to arrive.
    Asking,
    /// A request is being answered.
    Answering,
    /// An answer was handed over, and nobody has waited for the next request yet.
    Answered,
    /// Waiting for the next request.
    Idle,
}

/// Where the bytes' side and the answers' side of one connection tell each other the phase. Both are
/// polled by the connection's one task, so no order among other values is asked of it.
#[derive(Clone, Default)]
pub(super) struct Shared(Arc<Sides>);

#[derive(Default)]
struct Sides {
    phase: AtomicU8,
    waits: AtomicBool,
}

impl Shared {
    pub(super) fn get(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            0 => Phase::Unused,
            1 => Phase::Asking,
            2 => Phase::Answering,
            3 => Phase::Answered,
            _ => Phase::Idle,
        }
    }

    pub(super) fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether bytes wait for the peer to take those before.
    pub(super) fn waits(&self) -> bool {
        self.0.waits.load(Ordering::Relaxed)
    }

    pub(super) fn set_waits(&self, waits: bool) {
        self.0.waits.store(waits, Ordering::Relaxed);
    }
}
