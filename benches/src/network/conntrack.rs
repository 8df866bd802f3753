//! More connections than the table holds.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use super::{Scenario, Stage, Values, host::HostValues};
use crate::{Error, Result, netns::Netns, programs};

/// 100,000 UDP flows in a row to as many addresses of the loopback network, each turn to others, in a namespace
/// whose firewall tracks connections.
pub(super) struct Flows;

/// As a firewall of a small host has it.
const RULES: &str = "table inet lab {
    chain out {
        type filter hook output priority 0
        ct state new accept
    }
}
";

/// Has a namespace track connections.
///
/// # Errors
/// Where there is no nft(8), or the kernel refuses the rules.
pub fn track_connections(netns: &Netns) -> Result<()> {
    programs::nft(netns, RULES)
}

/// Has the kernel let go of what it keeps for connections that were tracked before, as on a host that has never tracked
/// any. `false` where some still are, or the kernel does not say.
#[must_use]
pub fn forget_tracked() -> bool {
    let slabs = Path::new("/sys/kernel/slab/nf_conntrack");
    // Entries of a namespace that is gone go a moment later.
    (0..50).any(|_| {
        let _ = fs::write(slabs.join("shrink"), "1");
        let text = fs::read_to_string(slabs.join("slabs"));
        let none = text.is_ok_and(|text| text.split_ascii_whitespace().next() == Some("0"));
        if !none {
            thread::sleep(Duration::from_millis(100));
        }
        none
    })
}

impl Flows {
    const COUNT: u32 = 100_000;
}

impl Scenario for Flows {
    fn tuner(&self) -> &'static str {
        "conntrack"
    }

    fn name(&self) -> &'static str {
        "100,000 flows at once"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("flows that were let through and tracked", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.netfilter.nf_conntrack_max", "1048576")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.netfilter.nf_conntrack_max", "16384")?;
        let netns = Netns::new()?;
        track_connections(&netns)?;
        let receiver = netns
            .run(|| UdpSocket::bind("0.0.0.0:9"))
            .map_err(Error::doing("cannot make a socket"))?;
        Ok(Box::new(FlowsStage {
            netns,
            turns: 0,
            _receiver: receiver,
            _host: host,
        }))
    }

    fn turns(&self) -> usize {
        4
    }

    fn missing(&self) -> Option<&'static str> {
        programs::no_nft()
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct FlowsStage {
    netns: Netns,
    turns: u32,
    _receiver: UdpSocket,
    _host: HostValues,
}

impl FlowsStage {
    fn tracked(&self) -> Result<f64> {
        let text = self.netns.sysctl("net.netfilter.nf_conntrack_count")?;
        text.parse()
            .map_err(|error| Error::other("nf_conntrack_count", error))
    }
}

impl Stage for FlowsStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn turn(&mut self) -> Result<f64> {
        let first = self.turns * Flows::COUNT;
        self.turns += 1;
        let before = self.tracked()?;
        let passed = self.netns.run(|| send(first))?;
        let tracked = self.tracked()? - before;
        Ok(f64::from(passed).min(tracked).max(0.0) * 100.0 / f64::from(Flows::COUNT))
    }
}

/// A datagram to each address; how many were let through.
fn send(first: u32) -> Result<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(Error::doing("cannot make a socket"))?;
    let base = u32::from(Ipv4Addr::new(127, 16, 0, 0)) + first;
    let to = |number| (Ipv4Addr::from(base + number), 9);
    let sent = (0..Flows::COUNT).filter(|number| socket.send_to(b"hello", to(*number)).is_ok());
    Ok(sent.count() as u32)
}
