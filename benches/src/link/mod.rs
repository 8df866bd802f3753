//! A link between two namespaces with delay, loss and rate, without netem.
//!
//! Each end is a TUN device with IFF_VNET_HDR and TSO, so one read carries up to 64 KiB of a TCP
//! stream. A thread a direction reads, holds each packet as long as the shape says, and writes it to
//! the other end. Loss is drawn for each packet on the wire: where a segment of a super-packet is
//! lost, the rest goes on around the hole.

mod forward;
mod gso;
mod tun;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) use self::tun::bring_up;
use crate::{Result, netns::Netns};

/// What one direction does to packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// One way, added to the time on the wire.
    pub delay: Duration,
    /// Bits per second, IP headers included; `None` is as fast as the machine.
    pub rate: Option<u64>,
    /// Share of packets lost, each on its own, 0 to 1.
    pub loss: f64,
    /// Bytes that may wait for the wire before more are dropped; 0 is one round trip's worth, at
    /// least 256 KiB.
    pub queue: usize,
    /// Of the random numbers: the same seed loses the same packets of the same traffic.
    pub seed: u64,
}

impl Shape {
    /// A lossless link of that one-way delay and no bound on its rate.
    #[must_use]
    pub fn new(delay: Duration) -> Shape {
        Shape {
            delay,
            rate: None,
            loss: 0.0,
            queue: 0,
            seed: 1,
        }
    }

    /// With a rate in bits per second.
    #[must_use]
    pub fn rate(self, bits_per_second: u64) -> Shape {
        Shape {
            rate: Some(bits_per_second),
            ..self
        }
    }

    /// With loss, 0 to 1.
    #[must_use]
    pub fn loss(self, share: f64) -> Shape {
        Shape {
            loss: share,
            ..self
        }
    }

    /// With a queue of so many bytes.
    #[must_use]
    pub fn queue(self, bytes: usize) -> Shape {
        Shape {
            queue: bytes,
            ..self
        }
    }
}

/// What went through one direction, in packets on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Came in.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped because the queue was full.
    pub queue_drops: u64,
}

#[derive(Debug, Default)]
struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    queue_drops: AtomicU64,
}

/// Two namespaces and the link between them, until dropped.
pub struct Link {
    /// Has 10.77.0.1 and fd77::1.
    pub a: Netns,
    /// Has 10.77.0.2 and fd77::2.
    pub b: Netns,
    counters: [Arc<Counters>; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

const A: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 77, 0, 1),
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1),
);
const B: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 77, 0, 2),
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2),
);

impl Link {
    /// The same shape both ways.
    ///
    /// # Errors
    /// Without root or /dev/net/tun.
    pub fn new(shape: Shape) -> Result<Link> {
        // Seeds of their own, so that losses of one way say nothing of the other's.
        let back = Shape {
            seed: shape.seed ^ 0x5bd1_e995,
            ..shape.clone()
        };
        Link::asymmetric(shape, back)
    }

    /// A shape for each way.
    ///
    /// # Errors
    /// Without root or /dev/net/tun.
    pub fn asymmetric(a_to_b: Shape, b_to_a: Shape) -> Result<Link> {
        let (a, b) = (Netns::new()?, Netns::new()?);
        let open = |netns: &Netns, (v4, v6)| netns.run(move || tun::open(v4, v6)).map(Arc::new);
        let (tun_a, tun_b): (Arc<OwnedFd>, Arc<OwnedFd>) = (open(&a, A)?, open(&b, B)?);
        let stop = Arc::new(AtomicBool::new(false));
        let mut counters = [Arc::new(Counters::default()), Arc::new(Counters::default())];
        let threads = [(&tun_a, &tun_b, a_to_b), (&tun_b, &tun_a, b_to_a)]
            .into_iter()
            .zip(&mut counters)
            .map(|((from, to, shape), counters)| {
                let mut forwarder =
                    forward::Forwarder::new(from.clone(), to.clone(), shape, counters.clone());
                let stop = stop.clone();
                thread::spawn(move || forwarder.run(&stop))
            })
            .collect();
        Ok(Link {
            a,
            b,
            counters,
            stop,
            threads,
        })
    }

    /// The address of `a`.
    #[must_use]
    pub fn addr_a(&self) -> Ipv4Addr {
        A.0
    }

    /// The address of `b`.
    #[must_use]
    pub fn addr_b(&self) -> Ipv4Addr {
        B.0
    }

    /// The IPv6 addresses of `a` and `b`.
    #[must_use]
    pub fn addrs_v6(&self) -> [Ipv6Addr; 2] {
        [A.1, B.1]
    }

    /// What went from `a` to `b` and from `b` to `a`.
    #[must_use]
    pub fn stats(&self) -> [DirectionStats; 2] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [&self.counters[0], &self.counters[1]].map(|c| DirectionStats {
            packets: read(&c.packets),
            bytes: read(&c.bytes),
            lost: read(&c.lost),
            queue_drops: read(&c.queue_drops),
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
