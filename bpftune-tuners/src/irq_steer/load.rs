//! What processors do, by the kernel's own account.

use std::time::{Duration, Instant};

/// Shares of a processor's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Share {
    /// Spent in interrupts and softirqs.
    pub(super) softirq: f64,
    /// With nothing to do, or waiting for a disk.
    pub(super) idle: f64,
}

/// Ticks of each processor, by number, from a "cpu" line of /proc/stat (proc_stat(5)): in interrupts and softirqs, idle, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    softirq: u64,
    idle: u64,
    all: u64,
}

fn parse(text: &str) -> Vec<Option<Ticks>> {
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((cpu, rest)) = line
            .strip_prefix("cpu")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // The sum of all has no number.
        let Ok(cpu) = cpu.parse::<u16>() else {
            continue;
        };
        let fields: Vec<u64> = rest
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; time of guests is in the first two already.
        let Some(&[_, _, _, idle, iowait, irq, softirq, _]) = fields.first_chunk::<8>() else {
            continue;
        };
        let cpu = usize::from(cpu);
        if found.len() <= cpu {
            found.resize(cpu + 1, None);
        }
        found[cpu] = Some(Ticks {
            softirq: irq.saturating_add(softirq),
            idle: idle.saturating_add(iowait),
            all: fields[..8]
                .iter()
                .fold(0, |sum: u64, field| sum.saturating_add(*field)),
        });
    }
    found
}

/// Looks at it again and again, and knows the shares between the last two looks.
#[derive(Debug, Default)]
pub(super) struct Load {
    last: Option<(Instant, Vec<Option<Ticks>>)>,
    shares: Vec<Option<Share>>,
}

/// Ticks of 10 ms are no finer measure than that.
const SHORTEST: Duration = Duration::from_millis(800);
/// A look so long ago is not the start of what goes on now.
const LONGEST: Duration = Duration::from_secs(4);

impl Load {
    /// Looks again, unless it just has. `text` gives /proc/stat.
    pub(super) fn look(&mut self, now: Instant, text: impl FnOnce() -> String) {
        let since = self.last.as_ref().map(|(at, _)| now.duration_since(*at));
        if since.is_some_and(|since| since < SHORTEST) {
            return;
        }
        let ticks = parse(&text());
        self.shares.clear();
        if let Some((_, before)) = self
            .last
            .take()
            .filter(|_| since.is_some_and(|since| since <= LONGEST))
        {
            let shares = before.iter().zip(&ticks).map(|(before, now)| {
                let (before, now) = (before.as_ref()?, now.as_ref()?);
                let all = now.all.checked_sub(before.all).filter(|all| *all > 0)? as f64;
                let share = |now: u64, before: u64| now.saturating_sub(before) as f64 / all;
                Some(Share {
                    softirq: share(now.softirq, before.softirq),
                    idle: share(now.idle, before.idle),
                })
            });
            self.shares = shares.collect();
        }
        self.last = Some((now, ticks));
    }

    /// Seconds in which a processor had nothing to do, in all, from /proc/stat, in ticks of a hundredth of a second on every Linux.
    pub(super) fn left(text: &str, cpu: u32) -> Option<f64> {
        let ticks = *parse(text).get(usize::try_from(cpu).ok()?)?;
        Some(ticks?.idle as f64 / 100.0)
    }

    /// What a processor did between the last two looks.
    pub(super) fn of(&self, cpu: u32) -> Option<Share> {
        *self.shares.get(usize::try_from(cpu).ok()?)?
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(cpu[0-9]{0,6} [0-9 ]{0,60}\n|.{0,40}\n){0,6}") {
            let _ = parse(&text);
        }
    }

    const FIRST: &str = "cpu  9 9 9 9 9 9 9 9\ncpu0 100 0 100 100 0 0 100 0 0 0\ncpu2 0 0 0 100 0 0 0 0 0 0\nintr 5\n";
    const SECOND: &str = "cpu0 110 0 120 110 0 10 150 0 0 0\ncpu2 10 0 0 160 30 0 0 0 0 0\n";

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let (mut load, start) = (Load::default(), Instant::now());
        load.look(start, || FIRST.into());
        assert_eq!(load.of(0), None);
        let second = Duration::from_secs(1);
        load.look(start + second, || SECOND.into());
        let share = |softirq, idle| Some(Share { softirq, idle });
        assert_eq!(load.of(0), share(0.6, 0.1));
        assert_eq!(
            (load.of(1), load.of(2), load.of(9)),
            (None, share(0.0, 0.9), None)
        );
        load.look(start + second * 3 / 2, || unreachable!("too soon"));
        assert!(load.of(0).is_some());
        load.look(start + second * 9, || SECOND.into());
        assert_eq!(
            load.of(0),
            None,
            "what was before a long silence says nothing"
        );
    }

    #[test]
    fn time_left_is_in_seconds() {
        assert_eq!(Load::left(SECOND, 2), Some(1.9));
        assert_eq!((Load::left(SECOND, 1), Load::left(SECOND, 7)), (None, None));
    }

    #[test]
    fn counters_that_go_back_are_no_load() {
        let (mut load, start) = (Load::default(), Instant::now());
        load.look(start, || SECOND.into());
        load.look(start + Duration::from_secs(1), || FIRST.into());
        assert_eq!(load.of(0), None);
    }

    #[test]
    fn reads_this_host() {
        let text = std::fs::read_to_string("/proc/stat").unwrap();
        assert!(parse(&text).iter().any(Option::is_some));
    }
}
