//! What systemd is told of a service, where it asks to be: `sd_notify(3)`.
//!
//! Started by anything else, nothing is sent. That is for the `sd-notify` crate to find out, which reads
//! systemd's own variables (`NOTIFY_SOCKET`, `WATCHDOG_USEC`).

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    /// Requests are accepted, under the configuration read last.
    Ready,
    /// The configuration is read again.
    Reloading,
    /// No more are; those under way are being answered.
    Stopping,
    /// The program still turns.
    Alive,
}

/// Tells it. A service manager that does not listen is no reason to stop.
pub(crate) fn tell(notice: Notice) {
    let said = match notice {
        Notice::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // With the time at which it began, as systemd's `Type=notify-reload` demands.
        Notice::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|since| sd_notify::notify(&[NotifyState::Reloading, since])),
        Notice::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Notice::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    };
    if let Err(error) = said {
        tracing::warn!(?notice, "the service manager cannot be told: {error}");
    }
}

/// Tells it twice within each period of the watchdog that the program is alive; never ends.
pub(crate) async fn stay_alive() {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else {
        return std::future::pending().await;
    };
    let mut beat = interval(period / 2);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        tell(Notice::Alive);
    }
}
