//! From the BPF program's events to signals.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use bpftune_core::{
    Figure, Knob, NetnsCookie, Result, Signal, Source,
    bpf::{EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};

/// Scenario numbers of the BPF program and their names. A fixed size is a detail with a gate of its own.
pub(super) const SCENARIOS: Scenarios = &[
    (1, super::rules::RECEIVE_LIMITED),
    (2, super::rules::SEND_LIMITED),
    (3, super::rules::MEMORY_EXCEEDED),
    (4, super::rules::FIRST_WINDOW),
];

/// The hooks of `tcp_buffer.bpf.c`.
pub struct TcpBufferSource {
    feed: Feed,
}

impl TcpBufferSource {
    pub(super) fn new() -> Result<TcpBufferSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/tcp_buffer.bpf.o"));
        Ok(TcpBufferSource {
            feed: Feed::load(super::NAME, object, SCENARIOS)?,
        })
    }
}

impl Source for TcpBufferSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let events = self.feed.drain()?;
        out.extend(
            events
                .iter()
                .filter_map(|(scenario, head, body)| parse(scenario, head, body)),
        );
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(netns, scenario, how_long);
    }

    /// Connections whose window stood at the old limit are shown the new one.
    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        if knob.tunable == super::rules::RMEM {
            self.feed.hooks().iterate("grow_waiting")?;
        }
        Ok(())
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

/// `struct tcp_buffer_event` after its head.
fn parse(scenario: &'static str, head: &EventHeader, body: &[u8]) -> Option<Signal> {
    let body = Fields(body);
    let (buffer, limit, window) = (body.u32(0)?, body.u32(4)?, body.u32(8)?);
    let rate = body.u64(16)?;
    let (rtt, min_rtt) = (body.u32(24)?, body.u32(28)?);
    let scaling_ratio = body.u16(32)?;
    let (locked, moderate) = (body.u8(34)?, body.u8(35)?);
    let (family, local_port) = (body.u16(36)?, body.u16(38)?);
    let remote_port = u16::from_be(body.u16(40)?);
    let address = body.bytes::<16>(42)?;
    let remote: IpAddr = if family == 10 {
        let v6 = Ipv6Addr::from(address);
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    } else {
        Ipv4Addr::new(address[0], address[1], address[2], address[3]).into()
    };
    Some(Signal {
        scenario: scenario.into(),
        netns: head.netns(),
        subject: format!(
            "port {local_port} with {}",
            SocketAddr::new(remote, remote_port)
        ),
        count: head.count,
        figures: vec![
            Figure::new("buffer", f64::from(buffer), "B"),
            Figure::new("limit", f64::from(limit), "B"),
            Figure::new("window", f64::from(window), "B"),
            Figure::new("rate", rate as f64, "B/s"),
            Figure::new("rtt", f64::from(rtt), "us"),
            Figure::new("min_rtt", f64::from(min_rtt), "us"),
            Figure::new("scaling_ratio", f64::from(scaling_ratio), "/256"),
            Figure::new("locked", f64::from(locked), ""),
            Figure::new("moderate_rcvbuf", f64::from(moderate), ""),
        ],
    })
}

#[cfg(test)]
mod tests {
    use bpftune_core::bpf::split;
    use proptest::prelude::*;

    use super::*;

    fn parse(event: &[u8]) -> Option<Signal> {
        let (scenario, head, body) = split(SCENARIOS, event)?;
        super::parse(scenario, &head, body)
    }

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut event = vec![0u8; 16 + 64];
        event[0] = 2;
        event[4] = 3;
        event[8] = 9;
        event[16..20].copy_from_slice(&16384u32.to_ne_bytes());
        event[32..40].copy_from_slice(&1_000_000u64.to_ne_bytes());
        event[52..54].copy_from_slice(&2u16.to_ne_bytes());
        event[54..56].copy_from_slice(&5201u16.to_ne_bytes());
        event[56..58].copy_from_slice(&443u16.to_be_bytes());
        event[58..62].copy_from_slice(&[10, 0, 0, 2]);
        let signal = parse(&event).unwrap();
        assert_eq!(signal.scenario, "send-limited");
        assert_eq!((signal.netns.0, signal.count), (9, 3));
        assert_eq!(signal.figure("rate"), Some(1e6));
        assert_eq!(signal.figure("buffer"), Some(16384.0));
        assert_eq!(signal.subject, "port 5201 with 10.0.0.2:443");
    }
}
