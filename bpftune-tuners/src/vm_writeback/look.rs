//! What was counted between two looks, as a signal: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{Figure, NetnsCookie, Signal};

use super::rules::{HELD, SLOW, SYNC_SLOW};

/// Sums at one moment, all of them since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Seconds that writers were held, together.
    pub(super) held: f64,
    /// Calls of fsync(2) and fdatasync(2) that ended.
    pub(super) syncs: f64,
    /// Seconds that they took together, those included that have not ended.
    pub(super) sync_wait: f64,
}

/// What there is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Now {
    /// Bytes a second that the devices with a backlog write.
    pub(super) rate: f64,
    /// Bytes that wait to be written, or are being written.
    pub(super) backlog: f64,
    /// Of so many bytes writers are held.
    pub(super) limit: f64,
    /// From so many bytes on writing begins by itself.
    pub(super) background: f64,
    /// The longest call since the last look, ended or not.
    pub(super) slowest: Duration,
}

/// The signal of a look, where there is anything to tell.
pub(super) fn signal(
    netns: NetnsCookie,
    over: Duration,
    before: &Sums,
    sums: &Sums,
    now: &Now,
) -> Option<Signal> {
    let seconds = over.as_secs_f64().max(0.001);
    let rate = |before: f64, now: f64| (now - before).max(0.0) / seconds;
    let held = rate(before.held, sums.held);
    let syncs = rate(before.syncs, sums.syncs);
    let waiting = rate(before.sync_wait, sums.sync_wait);
    let scenario = if now.slowest >= SLOW {
        SYNC_SLOW
    } else if held > 0.0 {
        HELD
    } else {
        return None;
    };
    Some(Signal {
        scenario: scenario.into(),
        netns,
        subject: "the host".into(),
        count: 1,
        figures: vec![
            Figure::new("rate", now.rate, "B/s"),
            Figure::new("backlog", now.backlog, "B"),
            Figure::new("limit", now.limit, "B"),
            Figure::new("background", now.background, "B"),
            Figure::new("held", held, "writers"),
            Figure::new("syncs", syncs, "/s"),
            Figure::new("waiting", waiting, "tasks"),
            Figure::new("slowest", now.slowest.as_secs_f64() * 1e3, "ms"),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(slowest_ms: u64, held: f64) -> Option<Signal> {
        let before = Sums {
            held: 10.0,
            syncs: 5.0,
            sync_wait: 7.0,
        };
        let sums = Sums {
            held: 10.0 + held,
            syncs: 9.0,
            sync_wait: 8.0,
        };
        let now = Now {
            rate: 5e7,
            backlog: 1e9,
            limit: 1.2e9,
            background: 6e8,
            slowest: Duration::from_millis(slowest_ms),
        };
        signal(NetnsCookie(1), Duration::from_secs(2), &before, &sums, &now)
    }

    #[test]
    fn counts_become_rates() {
        let signal = look(1500, 1.0).unwrap();
        assert_eq!(signal.scenario, SYNC_SLOW);
        for (name, value) in [
            ("held", 0.5),
            ("syncs", 2.0),
            ("waiting", 0.5),
            ("slowest", 1500.0),
            ("backlog", 1e9),
        ] {
            assert_eq!(signal.figure(name), Some(value), "{name}");
        }
    }

    #[test]
    fn only_what_may_matter_is_told() {
        assert_eq!(look(20, 1.0).unwrap().scenario, HELD);
        assert_eq!(look(20, 0.0), None);
    }
}
