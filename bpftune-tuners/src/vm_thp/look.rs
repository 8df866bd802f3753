//! What was counted between two looks, as a signal: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{Figure, NetnsCookie, Signal};

use super::rules::STALLS;

/// After a longer time without an event counts say nothing of now.
const STALE: Duration = Duration::from_secs(5);

/// Sums at one moment, all of them since some start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Seconds that tasks stalled for huge pages, together.
    pub(super) stalled: f64,
    /// Of these, for memory that no program advised to be huge.
    pub(super) unasked: f64,
    /// How often.
    pub(super) stalls: f64,
    /// Faults that got a huge page.
    pub(super) got: f64,
    /// Faults that wanted one and got none.
    pub(super) missed: f64,
}

/// The signal of a look, where it tells anything of now. `saved` are the seconds that a huge page saves.
pub(super) fn signal(
    netns: NetnsCookie,
    who: String,
    over: Duration,
    before: &Sums,
    sums: &Sums,
    longest: Duration,
    saved: f64,
) -> Option<Signal> {
    if over > STALE {
        return None;
    }
    let seconds = over.as_secs_f64().max(0.001);
    let rate = |of: fn(&Sums) -> f64| (of(sums) - of(before)).max(0.0) / seconds;
    Some(Signal {
        scenario: STALLS.into(),
        netns,
        subject: who,
        count: 1,
        figures: vec![
            Figure::new("stalled", rate(|sums| sums.stalled), "tasks"),
            Figure::new("unasked", rate(|sums| sums.unasked), "tasks"),
            Figure::new("stalls", rate(|sums| sums.stalls), "/s"),
            Figure::new("longest", longest.as_secs_f64() * 1e3, "ms"),
            Figure::new("got", rate(|sums| sums.got), "/s"),
            Figure::new("missed", rate(|sums| sums.missed), "/s"),
            Figure::new("saved", saved * 1e3, "ms"),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64) -> Option<Signal> {
        let before = Sums {
            stalled: 10.0,
            unasked: 9.0,
            stalls: 500.0,
            got: 1000.0,
            missed: 10.0,
        };
        let sums = Sums {
            stalled: 10.6,
            unasked: 9.5,
            stalls: 700.0,
            got: 1200.0,
            missed: 50.0,
        };
        signal(
            NetnsCookie(1),
            "web".into(),
            Duration::from_secs(seconds),
            &before,
            &sums,
            Duration::from_millis(31),
            0.001,
        )
    }

    #[test]
    fn counts_become_rates() {
        let signal = look(2).unwrap();
        assert_eq!(signal.subject, "web");
        for (name, value) in [
            ("stalled", 0.3),
            ("unasked", 0.25),
            ("stalls", 100.0),
            ("longest", 31.0),
            ("got", 100.0),
            ("missed", 20.0),
            ("saved", 1.0),
        ] {
            let found = signal.figure(name).unwrap();
            assert!((found - value).abs() < 1e-9, "{name}: {found}");
        }
    }

    #[test]
    fn what_was_counted_over_a_long_silence_is_not_told() {
        assert_eq!(look(60), None);
    }
}
