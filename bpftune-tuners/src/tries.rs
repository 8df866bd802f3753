//! When a change may be tried, and tried again.

use std::time::Duration;

use bpftune_core::trial::Outcome;

/// A trial that has not told after so long was ended by somebody.
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(90);
/// So long after a trial without a gain the same is not tried again.
pub(crate) const USELESS: Duration = Duration::from_secs(3600);

/// What is known of the trials of a change. What a tuner hears of them has no time: it is that of the last signal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    now: Duration,
    /// It is on trial until that tells, or until then.
    on_trial_until: Duration,
    useless_until: Duration,
}

impl Tries {
    /// A signal came.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.now = now;
    }

    /// A trial begins.
    pub(crate) fn begin(&mut self) {
        self.on_trial_until = self.now + FORGOTTEN;
    }

    /// That is what it said.
    pub(crate) fn told(&mut self, outcome: Outcome) {
        self.on_trial_until = Duration::ZERO;
        if outcome != Outcome::Better {
            self.useless_until = self.now + USELESS;
        }
    }

    /// Whether it is on trial.
    pub(crate) fn is_on(&self) -> bool {
        self.now < self.on_trial_until
    }

    /// Whether it may be tried.
    pub(crate) fn may(&self) -> bool {
        self.now >= self.useless_until && !self.is_on()
    }
}
