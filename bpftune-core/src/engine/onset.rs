//! A series of signals begins: the windows before a change.
//!
//! One signal may be chance, so a tuner is asked from the second of a series on (see
//! [`Tuner::acts_at_once`](crate::Tuner::acts_at_once)), and not before the windows of the baseline are there.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    NetnsCookie, Result, Signal,
    stats::Layout,
    trial::{Counter, Meter, Plan, ProcMeter, Side, Snapshot, Windows},
};

/// A series of signals ends with a silence of this length, or of two of its windows where that is longer, or with the
/// verdict on what it led to.
const SERIES: Duration = Duration::from_secs(2);
/// Signals of a tuner that wants each of them, which wait for the baseline at most.
const MAX_WAITING: usize = 64;

/// What a tuner's trials need to know of the time before.
#[derive(Debug)]
pub(super) struct Baseline {
    counters: Vec<Counter>,
    windows: Windows,
}

impl Baseline {
    pub(super) fn of<'a>(plans: impl Iterator<Item = &'a Rc<Plan>>) -> Baseline {
        let mut baseline = Baseline {
            counters: Vec::new(),
            windows: Windows {
                count: 0,
                length: Duration::ZERO,
            },
        };
        for plan in plans.filter(|plan| plan.layout == Layout::BeforeAfter) {
            for counter in plan.counters() {
                if !baseline.counters.contains(&counter) {
                    baseline.counters.push(counter);
                }
            }
            let long = |windows: Windows| windows.length * windows.count as u32;
            if long(plan.baseline) > long(baseline.windows) {
                baseline.windows = plan.baseline;
            }
        }
        baseline
    }
}

/// A series of signals of one tuner in one namespace.
#[derive(Debug)]
pub(super) struct Onset {
    baseline: Rc<Baseline>,
    snapshots: Vec<Snapshot>,
    /// When the last signal came.
    last: Instant,
    signals: u32,
    /// Not passed on yet.
    waiting: Vec<Signal>,
}

impl Onset {
    fn complete(&self) -> bool {
        self.snapshots.len() > self.baseline.windows.count
    }

    /// Whether a signal now is one of this series. Who is asked at `each` signal may speak as seldom as it likes: the
    /// windows before its change are taken to their end.
    fn goes_on(&self, now: Instant, each: bool) -> bool {
        self.is_heard(now) || (each && !self.complete())
    }

    /// Whether the last signal is not long ago: load that comes in bursts is silent between them, and longer windows are
    /// for longer bursts.
    fn is_heard(&self, now: Instant) -> bool {
        let silence = SERIES.max(self.baseline.windows.length * 2);
        now.duration_since(self.last) < silence
    }

    /// When the next window ends, if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        let last = self.snapshots.last().filter(|_| !self.complete())?;
        Some(last.at + self.baseline.windows.length)
    }

    /// The windows so far, for a plan.
    fn side(&self, plan: &Plan) -> Side {
        let mut side = Side::default();
        for pair in self.snapshots.windows(2) {
            side.add(&plan.guards, &self.baseline.counters, &pair[0], &pair[1]);
        }
        side
    }
}

/// /proc, and the figures of a tuner's own source.
struct EngineMeter<'a> {
    proc: ProcMeter,
    source: Option<&'a mut dyn crate::Source>,
    netns: NetnsCookie,
}

impl Meter for EngineMeter<'_> {
    fn read(&mut self, counter: &Counter) -> Option<f64> {
        match (counter, &mut self.source) {
            (Counter::Own(name), Some(source)) => source.figure(self.netns, name),
            _ => self.proc.read(counter),
        }
    }
}

impl Engine {
    /// Reads counters in a namespace; `None` where it is gone.
    pub(super) fn snapshot(
        &mut self,
        netns: NetnsCookie,
        counters: &[Counter],
        tuner: Option<usize>,
    ) -> Option<Snapshot> {
        let mut meter = EngineMeter {
            proc: ProcMeter::default(),
            source: tuner.map(|index| &mut *self.tuners[index].source as &mut dyn crate::Source),
            netns,
        };
        self.namespaces
            .within(netns, || Snapshot::read(counters, &mut meter))
            .ok()
    }

    /// Takes a signal into its series, and to the tuner where that may act.
    pub(super) fn series(&mut self, index: usize, signal: &Signal, now: Instant) -> Result<()> {
        let key = (signal.netns, index);
        let each = self.tuners[index].tuner.acts_at_once();
        let series = self.onset.get(&key);
        let goes_on = series.is_some_and(|onset| onset.goes_on(now, each));
        if !goes_on {
            let baseline = self.tuners[index].baseline.clone();
            let Some(first) = self.snapshot(signal.netns, &baseline.counters, Some(index)) else {
                let second = Duration::from_secs(1);
                self.tuners[index].quiet(signal, second);
                return Ok(());
            };
            self.watchdog
                .before(now, true, signal.netns, &mut self.namespaces);
            self.onset
                .retain(|_, onset| onset.is_heard(now) || onset.due().is_some());
            self.onset.insert(
                key,
                Onset {
                    baseline,
                    snapshots: vec![first],
                    last: now,
                    signals: 0,
                    waiting: Vec::new(),
                },
            );
        }
        let onset = self.onset.get_mut(&key).expect("inserted above");
        onset.last = now;
        onset.signals = onset.signals.saturating_add(1);
        if onset.complete() && (each || onset.signals >= 2) {
            self.ask(index, signal)?;
        } else {
            if !each {
                onset.waiting.clear();
            }
            if onset.waiting.len() < MAX_WAITING {
                onset.waiting.push(signal.clone());
            }
        }
        Ok(())
    }

    /// Ends the windows before changes that are due; where a baseline is complete, its tuner is asked.
    pub(super) fn sample_onsets(&mut self) -> Result<()> {
        let now = Instant::now();
        let due: Vec<(NetnsCookie, usize)> = self
            .onset
            .iter()
            .filter(|(_, onset)| onset.due().is_some_and(|due| due <= now))
            .map(|(key, _)| *key)
            .collect();
        for (netns, index) in due {
            let baseline = self.onset[&(netns, index)].baseline.clone();
            let Some(snapshot) = self.snapshot(netns, &baseline.counters, Some(index)) else {
                self.onset.remove(&(netns, index));
                continue;
            };
            self.watchdog
                .before(now, false, netns, &mut self.namespaces);
            let Some(onset) = self.onset.get_mut(&(netns, index)) else {
                continue;
            };
            onset.snapshots.push(snapshot);
            let enough = self.tuners[index].tuner.acts_at_once() || onset.signals >= 2;
            if onset.complete() && enough {
                for signal in std::mem::take(&mut onset.waiting) {
                    self.ask(index, &signal)?;
                }
            }
        }
        Ok(())
    }

    /// A trial there is over: what comes next is measured against the time after it, though the series goes on.
    pub(super) fn forget_baseline(&mut self, netns: NetnsCookie, index: usize) {
        let key = (netns, index);
        if self.onset.get(&key).is_some_and(Onset::complete) {
            self.onset.remove(&key);
        }
    }

    /// The windows before a change that is just being made: those of its tuner's series, or of any there.
    pub(super) fn windows_before(
        &self,
        netns: NetnsCookie,
        index: Option<usize>,
        plan: &Plan,
    ) -> Side {
        let own = index.and_then(|index| self.onset.get(&(netns, index)));
        let any = || {
            self.onset
                .iter()
                .find(|((place, _), _)| *place == netns)
                .map(|(_, onset)| onset)
        };
        own.or_else(any)
            .map(|onset| onset.side(plan))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the first of its windows begun.
    fn onset(start: Instant, length: Duration) -> Onset {
        let snapshot = Snapshot {
            at: start,
            values: Vec::new(),
        };
        Onset {
            baseline: Rc::new(Baseline {
                counters: Vec::new(),
                windows: Windows { count: 5, length },
            }),
            snapshots: vec![snapshot],
            last: start,
            signals: 1,
            waiting: Vec::new(),
        }
    }

    #[test]
    fn load_in_bursts_is_one_series_where_windows_are_as_long_as_the_bursts() {
        let start = Instant::now();
        let heard = |length, silence: u64| {
            let onset = onset(start, Duration::from_millis(length));
            onset.goes_on(start + Duration::from_millis(silence), false)
        };
        assert!(heard(2000, 3900) && !heard(2000, 4100));
        assert!(heard(10, 1900) && !heard(10, 2100));
    }

    #[test]
    fn windows_before_a_change_are_taken_to_their_end_however_seldom_a_tuner_speaks() {
        let start = Instant::now();
        let mut onset = onset(start, Duration::from_secs(1));
        let soon = start + Duration::from_millis(1900);
        let later = start + Duration::from_millis(2100);
        assert_eq!(
            [true, false].map(|each| onset.goes_on(soon, each)),
            [true; 2]
        );
        assert_eq!(
            [true, false].map(|each| onset.goes_on(later, each)),
            [true, false]
        );
        onset.snapshots = vec![onset.snapshots[0].clone(); 6];
        assert_eq!(
            [true, false].map(|each| onset.goes_on(later, each)),
            [false; 2]
        );
    }
}
