//! What was counted within the last seconds, as a signal: no I/O, no clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bpftune_core::{Figure, NetnsCookie, Signal};

use super::rules::STALLS;

/// What the BPF program counts calls of direct reclaim in, by how long they took.
pub(super) const BUCKETS: usize = 16;
/// Calls in the first bucket took less than this; each further one reaches twice as far.
const FIRST: Duration = Duration::from_nanos(1 << 17);

/// So far back a signal tells: programs that want much memory at once do so every few seconds.
const LOOKS_BACK: Duration = Duration::from_secs(10);

/// All that was counted until one moment, since the programs were loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Calls of direct reclaim that ended.
    pub(super) calls: f64,
    /// Seconds that they took together.
    pub(super) stalled: f64,
    /// The calls by how long they took.
    pub(super) took: [f64; BUCKETS],
    /// GiB that were allocated.
    pub(super) allocated: f64,
}

/// Looks of the last seconds, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    looks: VecDeque<(Instant, Sums)>,
}

impl History {
    pub(super) fn forget(&mut self) {
        self.looks.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    /// Takes a look in. The signal that it makes, or `None`: nobody had to wait since the oldest look.
    pub(super) fn add(&mut self, netns: NetnsCookie, at: Instant, sums: Sums) -> Option<Signal> {
        // One that is as old as that stays, to compare with.
        while self
            .looks
            .get(1)
            .is_some_and(|(then, _)| at.duration_since(*then) >= LOOKS_BACK)
        {
            self.looks.pop_front();
        }
        self.looks.push_back((at, sums));
        let ((then, before), (_, now)) = (self.looks.front()?, self.looks.back()?);
        signal(netns, at.duration_since(*then), before, now)
    }

    /// Whether it is as long as it may become: what it does not have is over.
    pub(super) fn is_long(&self) -> bool {
        let ends = self.looks.front().zip(self.looks.back());
        ends.is_some_and(|((first, _), (last, _))| last.duration_since(*first) >= LOOKS_BACK)
    }
}

fn signal(netns: NetnsCookie, over: Duration, before: &Sums, now: &Sums) -> Option<Signal> {
    let seconds = over.as_secs_f64().max(0.001);
    let grown = |before: f64, now: f64| (now - before).max(0.0);
    let calls = grown(before.calls, now.calls);
    if calls < 1.0 {
        return None;
    }
    let took: Vec<f64> = before
        .took
        .iter()
        .zip(&now.took)
        .map(|(before, now)| grown(*before, *now))
        .collect();
    Some(Signal {
        scenario: STALLS.into(),
        netns,
        subject: "the host".into(),
        count: calls as u32,
        figures: vec![
            Figure::new("over", seconds, "s"),
            Figure::new(
                "stalled",
                grown(before.stalled, now.stalled) / seconds,
                "tasks",
            ),
            Figure::new("calls", calls / seconds, "/s"),
            Figure::new("slow", slowest_hundredth(&took).as_secs_f64() * 1e3, "ms"),
            Figure::new(
                "allocated",
                grown(before.allocated, now.allocated) / seconds,
                "GiB/s",
            ),
        ],
    })
}

/// 99 of 100 calls took less than this, to a factor of two.
fn slowest_hundredth(took: &[f64]) -> Duration {
    let all: f64 = took.iter().sum();
    let mut sum = 0.0;
    let below = took.iter().position(|calls| {
        sum += calls;
        sum >= all * 0.99
    });
    FIRST * (1 << below.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(calls: f64, stalled: f64) -> Sums {
        let mut took = [0.0; BUCKETS];
        took[0] = calls * 0.98;
        took[5] = calls * 0.02;
        Sums {
            calls,
            stalled,
            took,
            allocated: calls / 100.0,
        }
    }

    #[test]
    fn counts_become_rates() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(history.add(NetnsCookie(1), start, sums(500.0, 3.0)), None);
        let later = start + Duration::from_secs(2);
        let signal = history
            .add(NetnsCookie(1), later, sums(700.0, 4.0))
            .unwrap();
        for (name, value) in [
            ("over", 2.0),
            ("stalled", 0.5),
            ("calls", 100.0),
            ("allocated", 1.0),
        ] {
            assert!(
                (signal.figure(name).unwrap() - value).abs() < 1e-9,
                "{name}"
            );
        }
        assert!((signal.figure("slow").unwrap() - 4.194_304).abs() < 1e-6);
    }

    #[test]
    fn only_the_last_seconds_count() {
        let (mut history, start) = (History::default(), Instant::now());
        for second in 0u32..=30 {
            // All of it within the first ten seconds.
            let calls = 10.0 * f64::from(second.min(10));
            let at = start + Duration::from_secs(second.into());
            let signal = history.add(NetnsCookie(1), at, sums(calls, calls));
            assert_eq!(signal.is_some(), (1..20).contains(&second), "{second}");
            assert_eq!(history.is_long(), second >= 10, "{second}");
        }
        history.forget();
        assert!(!history.is_long());
    }
}
