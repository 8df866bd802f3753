//! More neighbours at once than the table holds.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use super::{Scenario, Stage, Values, host::HostValues, segment::Segment};
use crate::{Error, Result, netns::Netns};

/// A packet to each of 10,000 hosts within half a tenth of a second; each turn to others.
pub(super) struct Burst;

impl Burst {
    const HOSTS: u16 = 10_000;
    /// So many in a row, then a rest of a millisecond: the segment's one thread answers for all.
    const ROW: u16 = 250;
    /// A lost request is made again after a second.
    const PATIENCE: Duration = Duration::from_millis(2500);
}

impl Scenario for Burst {
    fn tuner(&self) -> &'static str {
        "neigh"
    }

    fn name(&self) -> &'static str {
        "10,000 neighbours at once"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("neighbours reached", "%")
    }

    fn by_hand(&self) -> Values {
        &[
            ("net.ipv4.neigh.default.gc_thresh2", "32768"),
            ("net.ipv4.neigh.default.gc_thresh3", "65536"),
        ]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.ipv4.neigh.default.gc_thresh2", "512")?;
        host.set("net.ipv4.neigh.default.gc_thresh3", "1024")?;
        Ok(Box::new(BurstStage {
            segment: Segment::new()?,
            turns: 0,
            _host: host,
        }))
    }

    fn turns(&self) -> usize {
        4
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct BurstStage {
    segment: Segment,
    turns: u16,
    _host: HostValues,
}

impl Stage for BurstStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.segment.netns]
    }

    fn turn(&mut self) -> Result<f64> {
        // The network has room for six turns of others.
        let first = 1 + self.turns % 6 * Burst::HOSTS;
        self.turns += 1;
        self.segment.forget();
        self.segment.netns.run(|| send(first, Burst::HOSTS))?;
        let deadline = Instant::now() + Burst::PATIENCE;
        while self.segment.reached() < Burst::HOSTS.into() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self.segment.reached() as f64 * 100.0 / f64::from(Burst::HOSTS))
    }
}

fn send(first: u16, count: u16) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(Error::doing("cannot make a socket"))?;
    for number in first..first + count {
        // Fails where the table is full: that is what is measured.
        let _ = socket.send_to(b"hello", (Segment::host(number), 9));
        if number % Burst::ROW == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
