//! Retransmission storms and dropped packets, where changes were made.

use std::{collections::HashMap, time::Instant};

use super::{Harm, HarmSource};
use crate::{
    Figure, NetnsCookie,
    netns::Namespaces,
    trial::{Counter, Meter, ProcMeter, Snapshot},
};

/// Looks in a row that must find it: a connection that is let go overshoots once, for some round trips.
const LOOKS: u32 = 3;
/// Segments that a look must have seen.
const MIN_SEGMENTS: f64 = 200.0;

/// Drops in a second before a change, from two totals.
#[derive(Clone, Copy, Debug)]
struct Before {
    first: (Instant, f64),
    last: (Instant, f64),
}

impl Before {
    fn at(now: Instant, total: f64) -> Before {
        Before {
            first: (now, total),
            last: (now, total),
        }
    }

    /// 0 where there are not two yet.
    fn rate(&self) -> f64 {
        let seconds = self.last.0.duration_since(self.first.0).as_secs_f64();
        if seconds > 0.0 {
            (self.last.1 - self.first.1) / seconds
        } else {
            0.0
        }
    }
}

#[derive(Debug)]
struct Place {
    last: Snapshot,
    /// Share of segments sent again since the namespace was made: what is usual there.
    usual_retransmits: f64,
    storms: u32,
    drops: u32,
}

/// Drops of the host's receive queues, while awake.
#[derive(Debug)]
struct Backlog {
    last: (Instant, f64),
    looks: u32,
}

/// In each namespace with recent changes.
#[derive(Debug)]
pub struct Network {
    retransmits: f64,
    drops: f64,
    places: HashMap<NetnsCookie, Place>,
    backlog: Option<Backlog>,
    /// Of devices, in namespaces where changes may follow.
    drops_before: HashMap<NetnsCookie, Before>,
    backlog_before: Option<Before>,
}

/// What is known of namespaces without a change is forgotten when there are more.
const MAX_BEFORE: usize = 4096;

impl Network {
    /// With the share of segments sent again and the drops a second that are too many.
    #[must_use]
    pub fn new(retransmits: f64, drops: f64) -> Network {
        Network {
            retransmits,
            drops,
            places: HashMap::new(),
            backlog: None,
            drops_before: HashMap::new(),
            backlog_before: None,
        }
    }

    /// From how many drops a second on they are too many, and more than before the change.
    fn too_many(&self, before: Option<&Before>) -> f64 {
        self.drops.max(before.map_or(0.0, Before::rate) * 2.0)
    }

    /// A namespace's look: what rose there, if for long enough.
    fn judge(&mut self, netns: NetnsCookie, now: Snapshot) -> Option<(String, Figure)> {
        let [segments, again, dropped] = [0, 1, 2].map(|i| now.values[i]);
        let too_many = self.too_many(self.drops_before.get(&netns));
        let Some(place) = self.places.get_mut(&netns) else {
            self.places.insert(
                netns,
                Place {
                    usual_retransmits: again / segments.max(1.0),
                    last: now,
                    storms: 0,
                    drops: 0,
                },
            );
            return None;
        };
        let seconds = now.at.duration_since(place.last.at).as_secs_f64();
        if seconds < 0.1 {
            return None;
        }
        let sent = segments - place.last.values[0];
        let share = (again - place.last.values[1]) / sent.max(1.0);
        let drops = (dropped - place.last.values[2]) / seconds;
        let storm = sent >= MIN_SEGMENTS
            && share >= self.retransmits
            && share >= place.usual_retransmits * 2.0;
        place.last = now;
        place.storms = if storm { place.storms + 1 } else { 0 };
        place.drops = if drops >= too_many {
            place.drops + 1
        } else {
            0
        };
        if place.storms >= LOOKS {
            let what = format!(
                "{:.0} % of the TCP segments are sent again, {:.0} % is usual",
                share * 100.0,
                place.usual_retransmits * 100.0
            );
            return Some((what, Figure::new("retransmits", share * 100.0, "%")));
        }
        (place.drops >= LOOKS).then(|| {
            let what = format!("network devices drop {drops:.0} packets a second");
            (what, Figure::new("drops", drops, "/s"))
        })
    }

    /// Packets dropped because a processor's queue was full; of the host as a whole.
    fn judge_backlog(&mut self, now: Instant, total: f64) -> Option<Harm> {
        let Some(Backlog { last, looks }) = &self.backlog else {
            self.backlog = Some(Backlog {
                last: (now, total),
                looks: 0,
            });
            return None;
        };
        let rate = (total - last.1) / now.duration_since(last.0).as_secs_f64().max(0.1);
        let too_many = self.too_many(self.backlog_before.as_ref());
        let looks = if rate >= too_many { looks + 1 } else { 0 };
        self.backlog = Some(Backlog {
            last: (now, total),
            looks,
        });
        (looks >= LOOKS).then(|| Harm {
            what: format!("the host's receive queues drop {rate:.0} packets a second"),
            figures: vec![Figure::new("backlog_drops", rate, "/s")],
        })
    }
}

/// Of the host, since boot.
fn backlog_drops() -> Option<f64> {
    ProcMeter::default().read(&Counter::SoftnetDrops)
}

fn note(before: &mut Option<Before>, now: Instant, begins: bool, total: f64) {
    match before {
        Some(before) if !begins => before.last = (now, total),
        _ => *before = Some(Before::at(now, total)),
    }
}

impl HarmSource for Network {
    fn before(
        &mut self,
        now: Instant,
        begins: bool,
        netns: NetnsCookie,
        namespaces: &mut Namespaces,
    ) {
        // The host's, and some change is on watch while there is one.
        if self.backlog.is_none()
            && let Some(total) = backlog_drops()
        {
            note(&mut self.backlog_before, now, begins, total);
        }
        let Ok(total) =
            namespaces.within(netns, || ProcMeter::default().read(&Counter::DeviceDrops))
        else {
            return;
        };
        if self.drops_before.len() >= MAX_BEFORE {
            self.drops_before.clear();
        }
        let mut before = self.drops_before.remove(&netns);
        if let Some(total) = total {
            note(&mut before, now, begins, total);
        }
        self.drops_before
            .extend(before.map(|before| (netns, before)));
    }

    fn arm(&mut self, now: Instant) {
        self.places.clear();
        self.backlog = None;
        if let Some(total) = backlog_drops() {
            self.judge_backlog(now, total);
        }
    }

    fn disarm(&mut self) {
        self.places.clear();
        self.backlog = None;
        self.drops_before.clear();
        self.backlog_before = None;
    }

    fn harm(
        &mut self,
        now: Instant,
        places: &[NetnsCookie],
        namespaces: &mut Namespaces,
    ) -> Option<Harm> {
        let counters = [
            Counter::net("Tcp", "OutSegs"),
            Counter::net("Tcp", "RetransSegs"),
            Counter::DeviceDrops,
        ];
        for &netns in places {
            // A namespace that has gone can do no harm.
            let Ok(mut snapshot) = namespaces.within(netns, || {
                Snapshot::read(&counters, &mut ProcMeter::default())
            }) else {
                self.places.remove(&netns);
                continue;
            };
            snapshot.at = now;
            if let Some((what, figure)) = self.judge(netns, snapshot) {
                return Some(Harm {
                    what: format!("in {} {what}", namespaces.place(netns)),
                    figures: vec![figure],
                });
            }
        }
        self.judge_backlog(now, backlog_drops()?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_storm_is_one_that_lasts_and_is_not_usual() {
        let start = Instant::now();
        let at = |second: u64, segments: f64, again: f64, dropped: f64| Snapshot {
            at: start + Duration::from_secs(second),
            values: vec![segments, again, dropped],
        };
        let netns = NetnsCookie(7);
        let run = |usual: f64, looks: &[(f64, f64, f64)]| {
            let mut network = Network::new(0.1, 1000.0);
            let (mut segments, mut again, mut dropped) = (10_000.0, 10_000.0 * usual, 0.0);
            let mut found = None;
            network.judge(netns, at(0, segments, again, dropped));
            for (i, look) in looks.iter().enumerate() {
                segments += look.0;
                again += look.1;
                dropped += look.2;
                found = found.or(network.judge(netns, at(1 + i as u64, segments, again, dropped)));
            }
            found.map(|(what, _)| what)
        };
        let storm = (1000.0, 200.0, 0.0);
        let calm = (1000.0, 0.0, 0.0);
        assert!(run(0.0, &[storm; 3]).unwrap().contains("20 %"));
        assert_eq!(
            run(0.0, &[storm, storm, calm, storm, storm]),
            None,
            "an overshoot"
        );
        assert_eq!(run(0.15, &[storm; 5]), None, "a bad path was bad before");
        assert_eq!(
            run(0.0, &[(50.0, 40.0, 0.0); 5]),
            None,
            "too few segments to say"
        );
        assert!(
            run(0.0, &[(0.0, 0.0, 1500.0); 3])
                .unwrap()
                .contains("drop 1500")
        );
    }

    #[test]
    fn drops_that_were_there_before_are_not_the_changes() {
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        let drops = |before: f64, after: f64| {
            let mut network = Network::new(0.1, 1000.0);
            note(&mut network.backlog_before, at(0), true, 0.0);
            note(&mut network.backlog_before, at(5), false, before * 0.5);
            let mut total = before * 0.5;
            network.judge_backlog(at(5), total);
            let mut found = None;
            for look in 1..=4 {
                total += after;
                found = found.or(network.judge_backlog(at(5 + look * 10), total));
            }
            found.is_some()
        };
        assert!(drops(0.0, 1500.0));
        assert!(!drops(0.0, 900.0), "few");
        assert!(!drops(1400.0, 1500.0), "as before");
        assert!(drops(1400.0, 3000.0), "twice as many");
    }
}
