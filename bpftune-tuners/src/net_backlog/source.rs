//! From the BPF program's events to signals.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{self, EventHeader, Feed, Fields, HookStatus, SHARED, Scenarios, of_host},
    netns::Namespaces,
    trial::{Counter, Meter, ProcMeter},
};
use libbpf_rs::MapHandle;

use super::{
    flows::LOST_BY_OTHERS,
    rounds::SQUEEZED,
    rules::{LOST, PACKETS_LOST},
};
use crate::bursts::is_overload;

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[(1, LOST)];

/// The hook of `net_backlog.bpf.c`.
pub struct NetBacklogSource {
    feed: Feed,
    total: Option<MapHandle>,
    /// When squeezes were read last, and how many there had been.
    squeezes: Option<(Instant, f64)>,
}

impl NetBacklogSource {
    pub(super) fn new() -> Result<NetBacklogSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/net_backlog.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        Ok(NetBacklogSource {
            total: feed.hooks().map("total"),
            feed,
            squeezes: None,
        })
    }

    /// Squeezes a second since it was asked last.
    fn squeezed(&mut self) -> Option<f64> {
        let now = Instant::now();
        let sum = ProcMeter::default().read(&Counter::SoftnetSqueezes)?;
        let (then, before) = self.squeezes.replace((now, sum))?;
        Some((sum - before).max(0.0) / now.duration_since(then).as_secs_f64().max(0.001))
    }
}

impl Source for NetBacklogSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some(mut signal) = parse(scenario, &head, &body) else {
                continue;
            };
            if signal.figure("lasting").is_some_and(is_overload) {
                let squeezed = self.squeezed();
                signal
                    .figures
                    .extend(squeezed.map(|squeezed| Figure::new(SQUEEZED, squeezed, "/s")));
            }
            out.push(of_host(signal, namespaces));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(SHARED, scenario, how_long);
    }

    /// Packets lost by full queues, of the whole host.
    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let index = match name {
            PACKETS_LOST => 0,
            LOST_BY_OTHERS => 1,
            _ => return None,
        };
        bpf::counter(self.total.as_ref()?, index)
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

/// `struct net_backlog_event` after its head.
fn parse(scenario: &'static str, head: &EventHeader, body: &[u8]) -> Option<Signal> {
    let body = Fields(body);
    Some(Signal {
        scenario: scenario.into(),
        netns: head.netns(),
        subject: body.text(16, 16)?,
        count: head.count,
        figures: vec![
            Figure::new("lost", head.count.into(), ""),
            Figure::new("lasting", body.u32(0)?.into(), "ms"),
            Figure::new("series", body.u32(4)?.into(), ""),
            Figure::new("of_one", body.u32(8)?.into(), ""),
            Figure::new("of_others", body.u32(12)?.into(), ""),
        ],
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: EventHeader = EventHeader {
        scenario: 1,
        count: 77,
        netns_cookie: 9,
    };

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(LOST, &HEAD, &bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = [0; 32];
        for (at, number) in [120u32, 3, 70, 7].into_iter().enumerate() {
            body[at * 4..at * 4 + 4].copy_from_slice(&number.to_ne_bytes());
        }
        body[16..20].copy_from_slice(b"eth0");
        let signal = parse(LOST, &HEAD, &body).unwrap();
        assert_eq!(signal.subject, "eth0");
        let figures = ["lost", "lasting", "series", "of_one", "of_others"];
        let values = figures.map(|name| signal.figure(name).unwrap());
        assert_eq!(values, [77.0, 120.0, 3.0, 70.0, 7.0]);
        assert!(parse(LOST, &HEAD, &body[..31]).is_none());
    }
}
