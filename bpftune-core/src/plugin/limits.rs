//! How much a plugin may use and say.

use std::time::Instant;

/// What a process plugin may use. rlimits hold everywhere; memory and processes are limited for all of a
/// plugin's processes together where control groups can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space of each process, and memory of all of them, bytes.
    pub memory: u64,
    /// Processes and threads at a time.
    pub processes: u64,
    /// Open descriptors of each process.
    pub files: u64,
    /// Processor time of each process, seconds; then it is ended and started anew.
    pub cpu_seconds: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory: 512 << 20,
            processes: 16,
            files: 64,
            cpu_seconds: 3600,
        }
    }
}

/// A budget that fills up again: what is said too often or too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: f64,
    most: f64,
    per_second: f64,
    at: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub(super) fn new(most: f64, per_second: f64, now: Instant) -> Budget {
        Budget {
            left: most,
            most,
            per_second,
            at: now,
        }
    }

    /// Takes from it; `false` where that much is not there.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.per_second).min(self.most);
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }
}

/// How long a plugin rests after it failed: twice as long each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
}

/// The first rest.
const FIRST_REST: std::time::Duration = std::time::Duration::from_secs(1);
/// The longest.
const LONGEST_REST: std::time::Duration = std::time::Duration::from_secs(600);
/// Who ran well for so long starts from the first rest again.
pub(super) const GOOD_RUN: std::time::Duration = std::time::Duration::from_secs(600);

impl BackOff {
    /// It failed after it ran so long: how long it rests.
    pub(super) fn failed(&mut self, ran: std::time::Duration) -> std::time::Duration {
        if ran >= GOOD_RUN {
            self.failures = 0;
        }
        let rest = FIRST_REST * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        rest.min(LONGEST_REST)
    }

    /// How often it failed in a row.
    #[must_use]
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_fills_up_again() {
        let start = Instant::now();
        let mut budget = Budget::new(10.0, 1.0, start);
        assert!(budget.take(10.0, start));
        assert!(!budget.take(1.0, start));
        assert!(budget.take(1.0, start + Duration::from_secs(1)));
        assert!(!budget.take(11.0, start + Duration::from_secs(1000)));
    }

    #[test]
    fn rests_grow_and_end() {
        let mut back_off = BackOff::default();
        let rests: Vec<u64> = (0..12)
            .map(|_| back_off.failed(Duration::ZERO).as_secs())
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(back_off.failed(GOOD_RUN).as_secs(), 1);
    }
}
