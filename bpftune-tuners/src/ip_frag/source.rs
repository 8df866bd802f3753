//! From the BPF program's events, and what the namespace counts, to signals.

use std::{
    collections::HashMap,
    fs,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
    trial::{Counter, Meter, ProcMeter},
};

use super::rules::{COMPLETED_V6, FULL, REFUSED_V6};

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[(1, FULL)];

/// Events further apart are not one series. Incomplete datagrams are given up after 30 or 60 s.
const SERIES: Duration = Duration::from_secs(10);
/// Namespaces that are watched, at most.
const MOST: usize = 1024;

/// The hooks of `ip_frag.bpf.c`.
pub struct IpFragSource {
    feed: Feed,
    series: HashMap<(NetnsCookie, Family), Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

/// What a namespace counts of fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    /// Fragments that came.
    asked: f64,
    /// Datagrams put together.
    completed: f64,
    /// Fragments refused, and datagrams given up.
    failed: f64,
}

impl Counts {
    /// Of the calling thread's namespace. `None` where it has no such family.
    fn read(family: Family) -> Option<Counts> {
        match family {
            Family::V4 => {
                let mut meter = ProcMeter::default();
                let mut count = |name| meter.read(&Counter::net("Ip", name));
                Some(Counts {
                    asked: count("ReasmReqds")?,
                    completed: count("ReasmOKs")?,
                    failed: count("ReasmFails")?,
                })
            }
            Family::V6 => {
                let text = fs::read_to_string("/proc/thread-self/net/snmp6").ok()?;
                let count = |name| v6_counter(&text, name);
                Some(Counts {
                    asked: count("Ip6ReasmReqds")?,
                    completed: count("Ip6ReasmOKs")?,
                    failed: count("Ip6ReasmFails")?,
                })
            }
        }
    }

    /// What was counted from `before` on; nothing where a counter was set back.
    fn since(self, before: Counts) -> Counts {
        let grew = |now: f64, before: f64| (now - before).max(0.0);
        Counts {
            asked: grew(self.asked, before.asked),
            completed: grew(self.completed, before.completed),
            failed: grew(self.failed, before.failed),
        }
    }
}

/// Of the text of /proc/net/snmp6.
fn v6_counter(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Events that follow each other.
#[derive(Clone, Copy, Debug)]
struct Series {
    began: Counts,
    last: Instant,
    before: Counts,
}

impl IpFragSource {
    pub(super) fn new() -> Result<IpFragSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/ip_frag.bpf.o"));
        Ok(IpFragSource {
            feed: Feed::load(super::NAME, object, SCENARIOS)?,
            series: HashMap::new(),
        })
    }

    /// The first event of a series only begins counting.
    fn count(
        &mut self,
        netns: NetnsCookie,
        family: Family,
        now: Counts,
    ) -> Option<(Counts, Counts)> {
        let at = Instant::now();
        self.series
            .retain(|_, series| at.duration_since(series.last) < SERIES);
        let fresh = self.series.len() < MOST;
        match self.series.get_mut(&(netns, family)) {
            Some(series) => {
                let counts = (now.since(series.began), now.since(series.before));
                (series.last, series.before) = (at, now);
                Some(counts)
            }
            None if fresh => {
                let series = Series {
                    began: now,
                    last: at,
                    before: now,
                };
                self.series.insert((netns, family), series);
                None
            }
            None => None,
        }
    }
}

impl Source for IpFragSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (_, head, body) in self.feed.drain()? {
            let Some((family, seen)) = parse(&body) else {
                continue;
            };
            let netns = head.netns();
            let Ok(Some(now)) = namespaces.within(netns, || Counts::read(family)) else {
                continue;
            };
            if let Some((series, lately)) = self.count(netns, family, now) {
                let place = namespaces.place(netns);
                out.push(signal(&head, family, seen, series, lately, place));
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(netns, scenario, how_long);
    }

    /// What /proc/net/snmp6 counts, for trials: the engine reads /proc/net/snmp itself.
    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let counts = Counts::read(Family::V6)?;
        match name {
            COMPLETED_V6 => Some(counts.completed),
            REFUSED_V6 => Some(counts.failed),
            _ => None,
        }
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

/// What an event tells, beside the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    memory: u64,
    limit: u64,
    /// First and last fragments of datagrams, refused since the last event.
    first: u32,
    last: u32,
}

/// `struct ip_frag_event` after its head.
fn parse(body: &[u8]) -> Option<(Family, Seen)> {
    let body = Fields(body);
    let family = match body.u16(24)? {
        2 => Family::V4,
        10 => Family::V6,
        _ => return None,
    };
    let seen = Seen {
        memory: body.u64(0)?,
        limit: body.u64(8)?,
        first: body.u32(16)?,
        last: body.u32(20)?,
    };
    Some((family, seen))
}

fn signal(
    head: &EventHeader,
    family: Family,
    seen: Seen,
    series: Counts,
    lately: Counts,
    place: String,
) -> Signal {
    Signal {
        scenario: FULL.into(),
        netns: head.netns(),
        subject: place,
        count: head.count,
        figures: vec![
            Figure::new("family", if family == Family::V4 { 4.0 } else { 6.0 }, ""),
            Figure::new("memory", seen.memory as f64, "B"),
            Figure::new("limit", seen.limit as f64, "B"),
            Figure::new("first", seen.first.into(), ""),
            Figure::new("last", seen.last.into(), ""),
            Figure::new("refused", lately.failed, ""),
            Figure::new("series_asked", series.asked, ""),
            Figure::new("series_completed", series.completed, ""),
            Figure::new("series_failed", series.failed, ""),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: EventHeader = EventHeader {
        scenario: 1,
        count: 3,
        netns_cookie: 9,
    };

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = [0; 32];
        body[..8].copy_from_slice(&5_000_000u64.to_ne_bytes());
        body[8..16].copy_from_slice(&4_194_304u64.to_ne_bytes());
        (body[16], body[20], body[24]) = (7, 5, 10);
        let seen = Seen {
            memory: 5_000_000,
            limit: 4_194_304,
            first: 7,
            last: 5,
        };
        assert_eq!(parse(&body), Some((Family::V6, seen)));
        body[24] = 1;
        assert_eq!(parse(&body), None);
    }

    #[test]
    fn counters_that_were_set_back_have_not_grown() {
        let counts = |asked, completed, failed| Counts {
            asked,
            completed,
            failed,
        };
        let grew = counts(4.0, 7.0, 9.0).since(counts(4294967290.0, 5.0, 9.0));
        assert_eq!(grew, counts(0.0, 2.0, 0.0));
    }

    #[test]
    fn reads_what_the_kernel_counts() {
        let text = "Ip6InReceives  \t12\nIp6ReasmReqds                   \t399\n";
        assert_eq!(v6_counter(text, "Ip6ReasmReqds"), Some(399.0));
        assert_eq!(v6_counter(text, "Ip6ReasmOKs"), None);
        assert!(Counts::read(Family::V4).is_some());
    }

    #[test]
    fn the_first_event_of_a_series_only_begins_counting() {
        let mut source = IpFragSource::new().unwrap();
        let counts = |asked, completed| Counts {
            asked,
            completed,
            failed: 0.0,
        };
        let mut count = |netns, asked, completed| {
            source.count(NetnsCookie(netns), Family::V4, counts(asked, completed))
        };
        assert_eq!(count(7, 100.0, 10.0), None);
        assert_eq!(count(8, 5.0, 1.0), None);
        let second = count(7, 160.0, 20.0).unwrap();
        assert_eq!(second, (counts(60.0, 10.0), counts(60.0, 10.0)));
        let third = count(7, 200.0, 21.0).unwrap();
        assert_eq!(third, (counts(100.0, 11.0), counts(40.0, 1.0)));
        let seen = Seen {
            memory: 2,
            limit: 1,
            first: 1,
            last: 1,
        };
        let signal = signal(&HEAD, Family::V4, seen, third.0, third.1, "host".into());
        assert_eq!(signal.figure("series_asked"), Some(100.0));
    }
}
