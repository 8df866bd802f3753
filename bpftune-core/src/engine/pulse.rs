//! Signs of life, while somebody needs them: to the reverter, and to systemd.
//!
//! While nothing is on trial there is nothing to lose by a stall, so nobody waits for a sign and the daemon sleeps.
//! systemd's timeout is lifted for so long (`WATCHDOG_USEC`, sd_notify(3), systemd 243).

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::reverter::{Reverter, STALLED};

/// No timeout, in systemd's words: USEC_INFINITY.
const NEVER: &str = "WATCHDOG_USEC=18446744073709551615";

pub(super) struct Pulse {
    reverter: Option<Reverter>,
    /// systemd's timeout, where a unit has one.
    systemd: Option<Duration>,
    /// Whether somebody waits for signs.
    pending: bool,
    last: Option<Instant>,
}

/// Signs need not be closer than this.
const OFTEN: Duration = Duration::from_secs(1);

impl Pulse {
    pub(super) fn new(reverter: Option<Reverter>) -> Pulse {
        let systemd = sd_notify::watchdog_enabled();
        let pulse = Pulse {
            reverter,
            systemd,
            pending: false,
            last: None,
        };
        if pulse.systemd.is_some() {
            notify(&[NotifyState::Custom(NEVER)]);
        }
        pulse
    }

    /// The longest time between two signs.
    pub(super) fn every(&self) -> Duration {
        let wanted = self.systemd.unwrap_or(STALLED).min(STALLED);
        (wanted / 3).max(OFTEN)
    }

    /// A turn of the loop in which the timer was set: `pending` where changes are on trial or under watch.
    pub(super) fn beat(&mut self, pending: bool) {
        let began = pending && !self.pending;
        let ended = self.pending && !pending;
        self.pending = pending;
        if ended {
            self.last = None;
            if let Some(reverter) = &mut self.reverter {
                reverter.idle();
            }
            if self.systemd.is_some() {
                notify(&[NotifyState::Custom(NEVER)]);
            }
        }
        let now = Instant::now();
        if !pending
            || self
                .last
                .is_some_and(|last| now.duration_since(last) < OFTEN)
        {
            return;
        }
        self.last = Some(now);
        if let Some(reverter) = &mut self.reverter {
            reverter.beat();
        }
        if let Some(timeout) = self.systemd {
            if began {
                let text = format!("WATCHDOG_USEC={}", timeout.as_micros());
                notify(&[NotifyState::Custom(&text)]);
            }
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// All is restored, or kept on purpose.
    pub(super) fn goodbye(&mut self) {
        if let Some(reverter) = self.reverter.take() {
            reverter.goodbye();
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Fails only where no service manager listens.
    let _ = sd_notify::notify(state);
}
