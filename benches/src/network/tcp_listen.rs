//! Listeners whose queues are too short, and a flood.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use super::{
    Scenario, Stage, Values,
    burst::{Server, ipv4, served},
    flood::SynFlood,
    rest_of_second,
};
use crate::{
    Result,
    link::{Link, Shape},
    netns::Netns,
};

/// The server wants this much and looks each so often.
const WANTED: u32 = 4096;
const SLEEPS: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(500);

/// 600 clients at once, each second; the kernel cuts the server's backlog of 4096 down to 128.
pub(super) struct Burst;

impl Burst {
    const CLIENTS: usize = 600;
}

impl Scenario for Burst {
    fn tuner(&self) -> &'static str {
        "tcp-listen"
    }

    fn name(&self) -> &'static str {
        "600 clients at once"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("served within half a second", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.core.somaxconn", "4096")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let link = Link::new(Shape::new(Duration::from_millis(2)))?;
        link.b.set_sysctl("net.core.somaxconn", "128")?;
        Ok(Box::new(BurstStage { link, server: None }))
    }
}

struct BurstStage {
    // Before the link: it is inside.
    server: Option<Server>,
    link: Link,
}

fn start(link: &Link) -> Result<Server> {
    let address = ipv4((link.addr_b(), 0).into());
    Server::start(&link.b, address, WANTED, SLEEPS)
}

impl Stage for BurstStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.b]
    }

    fn begin(&mut self) -> Result<()> {
        self.server = Some(start(&self.link)?);
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let server = self.server.as_ref().expect("begun");
        let to = ipv4(server.address);
        let count = Burst::CLIENTS;
        let served = served(&self.link.a, to, count, Duration::ZERO, PATIENCE)?;
        rest_of_second(start);
        Ok(served as f64 * 100.0 / count as f64)
    }
}

/// 4,000 forged SYNs a second and 200 good clients, syncookies off.
pub(super) struct Flood;

impl Flood {
    const FORGED: u64 = 3800;
    const GOOD: usize = 200;
}

impl Scenario for Flood {
    fn tuner(&self) -> &'static str {
        "tcp-listen"
    }

    fn name(&self) -> &'static str {
        "SYN flood, 5 % good clients"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("good clients served within half a second", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.ipv4.tcp_syncookies", "1")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let link = Link::new(Shape::new(Duration::from_millis(2)))?;
        link.b.set_sysctl("net.ipv4.tcp_syncookies", "0")?;
        link.b.set_sysctl("net.core.somaxconn", "512")?;
        Ok(Box::new(FloodStage {
            link,
            server: None,
            flood: None,
        }))
    }
}

struct FloodStage {
    flood: Option<SynFlood>,
    server: Option<Server>,
    link: Link,
}

impl Stage for FloodStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.b]
    }

    fn begin(&mut self) -> Result<()> {
        self.server = Some(start(&self.link)?);
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let server = self.server.as_ref().expect("begun");
        let to = SocketAddrV4::new(self.link.addr_b(), server.address.port());
        if self.flood.is_none() {
            self.flood = Some(SynFlood::start(&self.link.a, to, Flood::FORGED)?);
        }
        let start = Instant::now();
        let spread = Duration::from_millis(950);
        let served = served(&self.link.a, to.into(), Flood::GOOD, spread, PATIENCE)?;
        rest_of_second(start);
        Ok(served as f64 * 100.0 / Flood::GOOD as f64)
    }
}
