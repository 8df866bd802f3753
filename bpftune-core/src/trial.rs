//! Did the change help? A baseline, a window after the change, a verdict.
//!
//! The guards are counters of the namespace (/proc/net/netstat and /proc/net/snmp): bytes received
//! and sent, segments sent and sent again. The baseline lies between the first signal and the first
//! change; further changes of the same knob extend the trial, which ends [`WINDOW`] after the last
//! one and looks at what comes later than [`SETTLE`] after it. The verdict compares rates:
//! retransmissions that rose mean worse, goodput that rose means better. Where what arrives for the
//! first time has at least doubled, a share of retransmissions up to [`TOLERATED`] is its price, not
//! harm: a connection that is let go meets the path's real limit. Goodput that fell alone proves
//! nothing (the transfer may have ended) and stays unclear.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{Value, journal::DecisionId};

/// How long after the last change the trial ends.
pub const WINDOW: Duration = Duration::from_secs(3);

/// The guard counters of a network namespace at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// When they were read.
    pub at: Instant,
    /// `IpExt.InOctets + IpExt.OutOctets`.
    pub octets: u64,
    /// `Tcp.OutSegs`.
    pub segments: u64,
    /// `Tcp.RetransSegs`.
    pub retransmitted: u64,
}

impl Guards {
    /// Reads those of the calling thread's namespace; `None` where /proc shows none.
    #[must_use]
    pub fn now() -> Option<Guards> {
        let netstat = fs::read_to_string("/proc/thread-self/net/netstat").ok()?;
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
        Some(Guards {
            at: Instant::now(),
            octets: counter(&netstat, "IpExt", "InOctets")?
                + counter(&netstat, "IpExt", "OutOctets")?,
            segments: counter(&snmp, "Tcp", "OutSegs")?,
            retransmitted: counter(&snmp, "Tcp", "RetransSegs")?,
        })
    }
}

/// A counter of a file of paired lines: names first, numbers below.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names
        .split_ascii_whitespace()
        .position(|word| word == name)?;
    numbers.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// What a trial says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Goodput rose by 5 % or more, and it is not worse.
    Better,
    /// The share of retransmitted segments rose by a hundredth or more and at least doubled, for
    /// less than twice the goodput or above [`TOLERATED`].
    Worse,
    /// Neither.
    Unclear,
}

impl Outcome {
    /// "better", "worse", "unclear".
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Better => "better",
            Outcome::Worse => "worse",
            Outcome::Unclear => "unclear",
        }
    }
}

/// A run of changes of one knob under observation.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The changes, oldest first.
    pub decisions: Vec<DecisionId>,
    /// The value before the first of them.
    pub before: Value,
    baseline: (Guards, Guards),
    after: Guards,
    settled: bool,
    ends: Instant,
}

/// How long after the last change the verdict's window begins. A sender that is let go overshoots once, as any new
/// connection does at its start, and repairs that within some round trips: no harm that stays.
pub const SETTLE: Duration = Duration::from_secs(2);

/// Share of retransmitted segments that twice the goodput or more may cost.
pub const TOLERATED: f64 = 0.1;

/// Segments that a window must hold to judge retransmissions.
const MIN_SEGMENTS: u64 = 200;

impl Trial {
    /// Starts with the first change. `signalled` was read at the first signal, `changed` just before
    /// the write.
    #[must_use]
    pub fn new(decision: DecisionId, before: Value, signalled: Guards, changed: Guards) -> Trial {
        Trial {
            decisions: vec![decision],
            before,
            baseline: (signalled, changed),
            after: changed,
            settled: false,
            ends: changed.at + WINDOW,
        }
    }

    /// A further change of the same knob.
    pub fn extend(&mut self, decision: DecisionId, changed: Guards) {
        self.decisions.push(decision);
        self.after = changed;
        self.settled = false;
        self.ends = changed.at + WINDOW;
    }

    /// When to read the guards next: once to [settle](Self::settle), then for the verdict.
    #[must_use]
    pub fn due(&self) -> Instant {
        if self.settled {
            self.ends
        } else {
            self.after.at + SETTLE
        }
    }

    /// Takes the guards as the start of the verdict's window; `false` where that was done before and the verdict is
    /// due.
    pub fn settle(&mut self, guards: Guards) -> bool {
        let first = !self.settled;
        if first {
            self.after = guards;
            self.settled = true;
            self.ends = self.ends.max(guards.at + (WINDOW - SETTLE));
        }
        first
    }

    /// The verdict, and a sentence with its figures.
    #[must_use]
    pub fn verdict(&self, end: &Guards) -> (Outcome, String) {
        let (before, after) = (
            Rates::between(&self.baseline.0, &self.baseline.1),
            Rates::between(&self.after, end),
        );
        let doubled = after.retransmits <= TOLERATED && after.useful() >= before.useful() * 2.0;
        let outcome = if after.segments >= MIN_SEGMENTS
            && after.retransmits > before.retransmits + 0.01
            && after.retransmits > before.retransmits * 2.0
            && !doubled
        {
            Outcome::Worse
        } else if after.octets >= before.octets * 1.05 && after.octets > 0.0 {
            Outcome::Better
        } else {
            Outcome::Unclear
        };
        let text = format!(
            "{}: {:.1} Mbit/s before, {:.1} Mbit/s after; {:.2} % of segments sent again before, {:.2} % after",
            outcome.word(),
            before.octets * 8e-6,
            after.octets * 8e-6,
            before.retransmits * 100.0,
            after.retransmits * 100.0,
        );
        (outcome, text)
    }
}

struct Rates {
    /// Per second.
    octets: f64,
    /// Share of segments sent again.
    retransmits: f64,
    segments: u64,
}

impl Rates {
    /// Octets per second without those that were sent again.
    fn useful(&self) -> f64 {
        self.octets * (1.0 - self.retransmits)
    }

    fn between(from: &Guards, to: &Guards) -> Rates {
        let seconds = to
            .at
            .saturating_duration_since(from.at)
            .as_secs_f64()
            .max(1e-6);
        let segments = to.segments.saturating_sub(from.segments);
        Rates {
            octets: to.octets.saturating_sub(from.octets) as f64 / seconds,
            retransmits: to.retransmitted.saturating_sub(from.retransmitted) as f64
                / segments.max(1) as f64,
            segments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards(start: Instant, ms: u64, octets: u64, segments: u64, retransmitted: u64) -> Guards {
        Guards {
            at: start + Duration::from_millis(ms),
            octets,
            segments,
            retransmitted,
        }
    }

    fn outcome(end: (u64, u64, u64)) -> Outcome {
        let start = Instant::now();
        let trial = Trial::new(
            DecisionId(1),
            Value::from(1),
            guards(start, 0, 0, 0, 0),
            guards(start, 100, 100_000, 100, 0),
        );
        trial
            .verdict(&guards(start, 2100, 100_000 + end.0, 100 + end.1, end.2))
            .0
    }

    #[test]
    fn judges() {
        assert_eq!(outcome((20_000_000, 20_000, 10)), Outcome::Better);
        assert_eq!(
            outcome((2_000_000, 2_000, 0)),
            Outcome::Unclear,
            "the same rate"
        );
        assert_eq!(outcome((0, 0, 0)), Outcome::Unclear, "the transfer ended");
        assert_eq!(
            outcome((3_000_000, 3_000, 150)),
            Outcome::Worse,
            "half more, for a twentieth of the segments"
        );
        assert_eq!(
            outcome((20_000_000, 20_000, 1_000)),
            Outcome::Better,
            "ten times as much is worth that"
        );
        assert_eq!(outcome((20_000_000, 20_000, 3_000)), Outcome::Worse);
        assert_eq!(
            outcome((10, 20, 10)),
            Outcome::Unclear,
            "too few segments to judge"
        );
    }

    #[test]
    fn an_overshoot_at_the_start_is_no_harm_and_loss_that_stays_is() {
        let start = Instant::now();
        let verdict = |later: u64| {
            let changed = guards(start, 100, 100_000, 100, 0);
            let mut trial = Trial::new(
                DecisionId(1),
                Value::from(1),
                guards(start, 0, 0, 0, 0),
                changed,
            );
            assert_eq!(trial.due(), changed.at + SETTLE);
            assert!(trial.settle(guards(start, 2100, 10_000_000, 10_000, 3_000)));
            assert_eq!(trial.due(), changed.at + WINDOW);
            let end = guards(start, 3100, 20_000_000, 20_000, 3_000 + later);
            assert!(!trial.settle(end), "once");
            trial.verdict(&end).0
        };
        assert_eq!(verdict(10), Outcome::Better);
        assert_eq!(verdict(1_500), Outcome::Worse);
    }

    #[test]
    fn reads_paired_lines() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 5 7\n";
        assert_eq!(counter(text, "IpExt", "OutOctets"), Some(7));
        assert_eq!(counter(text, "IpExt", "Missing"), None);
        assert!(Guards::now().is_some());
    }
}
