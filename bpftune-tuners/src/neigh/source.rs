//! From the BPF program's events to signals.

use bpftune_core::{
    Figure, Result, Signal,
    bpf::{EventHeader, Fields, HostSource, Scenarios},
};

use super::rules::{DRAINED, FILLING, REFUSED};

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[(1, FILLING), (2, REFUSED), (3, DRAINED)];

pub(super) fn load() -> Result<HostSource> {
    let object = include_bytes!(concat!(env!("OUT_DIR"), "/neigh.bpf.o"));
    HostSource::load(super::NAME, object, SCENARIOS, parse)
}

/// `struct neigh_event` after its head.
fn parse(scenario: &'static str, head: &EventHeader, body: &[u8]) -> Option<Signal> {
    let body = Fields(body);
    let number = |name, at| Some(Figure::new(name, body.u32(at)?.into(), ""));
    let family = match body.u16(24)? {
        2 => 4.0,
        10 => 6.0,
        _ => return None,
    };
    Some(Signal {
        scenario: scenario.into(),
        netns: head.netns(),
        subject: body.text(32, 16)?,
        count: head.count,
        figures: vec![
            number("entries", 0)?,
            number("gc_thresh2", 4)?,
            number("gc_thresh3", 8)?,
            number("hosts", 12)?,
            number("made", 16)?,
            number("resolved", 20)?,
            Figure::new("family", family, ""),
        ],
    })
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
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(FILLING, &HEAD, &bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = [0; 48];
        for (at, number) in [614u32, 512, 1024, 65536, 700, 650].into_iter().enumerate() {
            body[at * 4..at * 4 + 4].copy_from_slice(&number.to_ne_bytes());
        }
        body[24] = 10;
        body[32..36].copy_from_slice(b"eth0");
        let signal = parse(FILLING, &HEAD, &body).unwrap();
        assert_eq!((signal.netns.0, signal.count), (9, 3));
        assert_eq!(signal.subject, "eth0");
        let figures = ["entries", "gc_thresh3", "hosts", "resolved", "family"];
        let values = figures.map(|name| signal.figure(name).unwrap());
        assert_eq!(values, [614.0, 1024.0, 65536.0, 650.0, 6.0]);
        body[24] = 12;
        assert!(parse(FILLING, &HEAD, &body).is_none(), "DECnet");
    }
}
