//! From the BPF program's events to signals.

use std::{os::fd::BorrowedFd, time::Duration};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{self, EventHeader, Feed, Fields, HookStatus, SHARED, Scenarios, of_host},
    netns::Namespaces,
};
use libbpf_rs::MapHandle;

use super::{
    flows::LOST_BY_OTHERS,
    rules::{LOST, PACKETS_LOST},
};

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[(1, LOST)];

/// The hook of `net_backlog.bpf.c`.
pub struct NetBacklogSource {
    feed: Feed,
    total: Option<MapHandle>,
}

impl NetBacklogSource {
    pub(super) fn new() -> Result<NetBacklogSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/net_backlog.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        Ok(NetBacklogSource {
            total: feed.hooks().map("total"),
            feed,
        })
    }
}

impl Source for NetBacklogSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let signal = parse(scenario, &head, &body);
            out.extend(signal.map(|signal| of_host(signal, namespaces)));
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
