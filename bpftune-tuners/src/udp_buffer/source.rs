//! From the BPF program's events to signals.

use std::{collections::HashSet, os::fd::BorrowedFd, time::Duration};

use bpftune_core::{
    Figure, Knob, NetnsCookie, Result, Signal, Source,
    bpf::{self, EventHeader, Feed, Fields, HookStatus, SHARED, Scenarios, of_host},
    netns::Namespaces,
    sysctl,
};
use libbpf_rs::MapHandle;

use super::{
    resize::{Port, resize},
    rules::{CUT_DOWN, FULL, LOST, MEMORY_EXCEEDED, RMEM_DEFAULT, RMEM_MAX},
};
use crate::reach::Done;

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[(1, FULL), (2, MEMORY_EXCEEDED)];
/// Ports that are remembered, at most; the default is the same for all.
const MOST_PORTS: usize = 256;

/// The hooks of `udp_buffer.bpf.c`.
pub struct UdpBufferSource {
    feed: Feed,
    total: Option<MapHandle>,
    /// Who lost datagrams.
    ports: HashSet<Port>,
    /// The default as it was last.
    default: u32,
}

impl UdpBufferSource {
    pub(super) fn new() -> Result<UdpBufferSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/udp_buffer.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        Ok(UdpBufferSource {
            total: feed.hooks().map("total"),
            feed,
            ports: HashSet::new(),
            default: read(RMEM_DEFAULT).unwrap_or(0),
        })
    }
}

/// A parameter of the host; the calling thread is there.
fn read(name: &str) -> Option<u32> {
    u32::try_from(sysctl::number(name)?).ok()
}

impl Source for UdpBufferSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some((port, mut signal)) = parse(scenario, &head, &body) else {
                continue;
            };
            if scenario == FULL && (self.ports.len() < MOST_PORTS || self.ports.contains(&port)) {
                self.ports.insert(port);
                self.default = read(RMEM_DEFAULT).unwrap_or(self.default);
            }
            if scenario == FULL && cut_down(&signal, self.default, read(RMEM_MAX)) {
                signal.scenario = CUT_DOWN.into();
            }
            out.push(of_host(signal, namespaces));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        // Others' datagrams may be lost on the same gate: a short silence only.
        let how_long = how_long.min(Duration::from_secs(1));
        let scenario = if scenario == CUT_DOWN { FULL } else { scenario };
        self.feed.quiet(SHARED, scenario, how_long);
    }

    /// Sockets that lost datagrams get the new default.
    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        let Some(new) = read(RMEM_DEFAULT).filter(|_| knob.tunable == RMEM_DEFAULT) else {
            return Ok(());
        };
        let old = std::mem::replace(&mut self.default, new);
        if let Some(done) = resize(self.feed.hooks(), &self.ports, old, new)? {
            tell(&done, old, new);
        }
        Ok(())
    }

    /// Datagrams lost by full buffers, of the whole host.
    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        bpf::counter(self.total.as_ref().filter(|_| name == LOST)?, 0)
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

fn tell(done: &Done, old: u32, new: u32) {
    let Done { reached, kept, why } = done;
    if let Some(why) = why {
        tracing::warn!(
            "{kept} UDP sockets keep a buffer of {old} bytes until they are made anew: pidfd_getfd(2) or SO_RCVBUFFORCE: \
             {why}; {reached} have {new} now"
        );
    } else if *reached > 0 {
        tracing::info!(
            "{reached} running UDP sockets have a buffer of {new} bytes now instead of {old}"
        );
    }
}

/// Whether `rmem_max` cut down what the application asked for: the kernel keeps twice what it gives.
fn cut_down(signal: &Signal, default: u32, max: Option<u32>) -> bool {
    let (Some(buffer), Some(max)) = (signal.figure("buffer"), max) else {
        return false;
    };
    signal.figure("locked") == Some(1.0)
        && buffer != f64::from(default)
        && buffer >= 2.0 * f64::from(max)
}

/// `struct udp_buffer_event` after its head.
fn parse(scenario: &'static str, head: &EventHeader, body: &[u8]) -> Option<(Port, Signal)> {
    let body = Fields(body);
    let number = |name, at, unit| Some(Figure::new(name, body.u32(at)?.into(), unit));
    let port = body.u16(20)?;
    let signal = Signal {
        scenario: scenario.into(),
        netns: head.netns(),
        subject: format!("port {port}"),
        count: head.count,
        figures: vec![
            number("buffer", 0, "B")?,
            number("queued", 4, "")?,
            number("lost", 8, "")?,
            number("lasting", 12, "ms")?,
            number("series", 16, "")?,
            Figure::new("locked", f64::from(body.u8(22)?), ""),
        ],
    };
    Some(((head.netns(), port), signal))
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
            let _ = parse(FULL, &HEAD, &bytes);
        }
    }

    fn event(buffer: u32, locked: u8) -> [u8; 24] {
        let mut body = [0; 24];
        for (at, number) in [buffer, 92, 40, 120, 2].into_iter().enumerate() {
            body[at * 4..at * 4 + 4].copy_from_slice(&number.to_ne_bytes());
        }
        body[20..22].copy_from_slice(&53u16.to_ne_bytes());
        body[22] = locked;
        body
    }

    #[test]
    fn parses_an_event() {
        let (port, signal) = parse(FULL, &HEAD, &event(212_992, 1)).unwrap();
        assert_eq!(port, (NetnsCookie(9), 53));
        let figures = ["buffer", "queued", "lost", "lasting", "series", "locked"];
        let values = figures.map(|name| signal.figure(name).unwrap());
        assert_eq!(values, [212_992.0, 92.0, 40.0, 120.0, 2.0, 1.0]);
    }

    #[test]
    fn only_what_the_maximum_cut_down_is_said_to_be() {
        let is = |buffer, locked, default| {
            let (_, signal) = parse(FULL, &HEAD, &event(buffer, locked)).unwrap();
            cut_down(&signal, default, Some(212_992))
        };
        assert!(is(425_984, 1, 212_992));
        assert!(!is(425_984, 0, 212_992), "not fixed");
        assert!(!is(131_072, 1, 212_992), "the application's choice");
        assert!(!is(425_984, 1, 425_984), "resized by this tuner");
    }
}
