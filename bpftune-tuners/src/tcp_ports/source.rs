//! From the BPF program's events to signals, with what holds the ports just then.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
    sysctl,
    trial::{Counter, Meter, ProcMeter},
};

use super::rules::{FIN_TIMEOUT, NO_PORT, RANGE, TW_REUSE};

const SCENARIOS: Scenarios = &[(1, NO_PORT)];

/// The hooks of `tcp_ports.bpf.c`.
pub struct TcpPortsSource {
    feed: Feed,
}

impl TcpPortsSource {
    pub(super) fn new() -> Result<TcpPortsSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/tcp_ports.bpf.o"));
        Ok(TcpPortsSource {
            feed: Feed::load(super::NAME, object, SCENARIOS)?,
        })
    }
}

/// What holds ports in the namespace of the calling thread.
#[derive(Clone, Debug, Default, PartialEq)]
struct Ports {
    /// Connections in TIME_WAIT, of both families, and sockets in use. The orphans of that file are the host's.
    time_wait: f64,
    in_use: f64,
    /// What processes listen on, lowest first.
    listening: Vec<u16>,
}

impl Ports {
    fn now() -> Ports {
        let mut meter = ProcMeter::default();
        let mut read = |name| meter.read(&Counter::sockets("TCP", name)).unwrap_or(0.0);
        let mut listening = Vec::new();
        for path in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
            if let Ok(file) = File::open(path) {
                listening.extend(listeners(BufReader::new(file)));
            }
        }
        listening.sort_unstable();
        listening.dedup();
        Ports {
            time_wait: read("tw"),
            in_use: read("inuse"),
            listening,
        }
    }

    /// The ports around the range that nobody listens on: how far it may reach down and up.
    fn room(&self, low: u16, high: u16) -> (u16, u16) {
        let below = self.listening.iter().rev().find(|port| **port < low);
        let above = self.listening.iter().find(|port| **port > high);
        (
            below.map_or(1, |port| port + 1),
            above.map_or(u16::MAX, |port| port - 1),
        )
    }
}

/// Ports in state LISTEN. They come first in the file, and what follows may be long: it is not read.
fn listeners(table: impl BufRead) -> Vec<u16> {
    table
        .lines()
        .skip(1)
        .map_while(|line| {
            let line = line.ok()?;
            let mut fields = line.split_ascii_whitespace();
            let (_, port) = fields.nth(1)?.split_once(':')?;
            let state = fields.nth(1)?;
            (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
        })
        .collect()
}

/// A sysctl of the calling thread's namespace.
fn text(name: &str) -> Option<String> {
    fs::read_to_string(sysctl::path(name)).ok()
}

/// Low and high of `net.ipv4.ip_local_port_range`.
fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) => Some((low, high)),
        _ => None,
    }
}

/// `struct tcp_ports_event` after its head: whom the connection was for.
fn peer(body: &[u8]) -> Option<SocketAddr> {
    let body = Fields(body);
    let family = body.u16(0)?;
    let port = u16::from_be(body.u16(2)?);
    let address = body.bytes::<16>(4)?;
    let address: IpAddr = if family == 10 {
        Ipv6Addr::from(address).to_canonical()
    } else {
        Ipv4Addr::new(address[0], address[1], address[2], address[3]).into()
    };
    Some(SocketAddr::new(address, port))
}

impl Source for TcpPortsSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some(peer) = peer(&body) else { continue };
            let seen = namespaces.within(head.netns(), || {
                let range = range(&text(RANGE)?)?;
                let number = |name| text(name)?.trim().parse::<u32>().ok();
                Some((range, number(TW_REUSE)?, number(FIN_TIMEOUT)?, Ports::now()))
            });
            // One that is gone needs no ports.
            let Ok(Some(((low, high), tw_reuse, fin_timeout, ports))) = seen else {
                continue;
            };
            let (floor, ceiling) = ports.room(low, high);
            out.push(Signal {
                scenario: scenario.into(),
                netns: head.netns(),
                subject: peer.to_string(),
                count: head.count,
                figures: vec![
                    Figure::new("failed", f64::from(head.count), ""),
                    Figure::new("low", f64::from(low), ""),
                    Figure::new("high", f64::from(high), ""),
                    Figure::new("floor", f64::from(floor), ""),
                    Figure::new("ceiling", f64::from(ceiling), ""),
                    Figure::new("time_wait", ports.time_wait, ""),
                    Figure::new("in_use", ports.in_use, ""),
                    Figure::new("tw_reuse", f64::from(tw_reuse), ""),
                    Figure::new("fin_timeout", f64::from(fin_timeout), "s"),
                ],
            });
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(netns, scenario, how_long);
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:EA61 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:8000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
";

    #[test]
    fn listeners_are_read_and_no_more() {
        assert_eq!(listeners(TABLE.as_bytes()), [8080, 60001]);
        assert!(listeners(&b""[..]).is_empty());
    }

    #[test]
    fn the_range_reaches_to_the_next_listener() {
        let ports = Ports {
            listening: vec![22, 8080, 33000, 61000],
            ..Ports::default()
        };
        assert_eq!(ports.room(32768, 60999), (8081, 60999));
        assert_eq!(Ports::default().room(32768, 60999), (1, 65535));
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(range("32768"), None);
    }

    #[test]
    fn names_the_peer() {
        let mut body = [0; 24];
        body[0] = 2;
        body[2..4].copy_from_slice(&443u16.to_be_bytes());
        body[4..8].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(peer(&body).unwrap().to_string(), "10.0.0.2:443");
        body[0] = 10;
        assert!(peer(&body).unwrap().is_ipv6());
        assert_eq!(peer(&body[..19]), None);
    }

    proptest! {
        #[test]
        fn tables_never_panic(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (listeners(text.as_bytes()), range(&text), peer(&bytes));
        }
    }
}
