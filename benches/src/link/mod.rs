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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(crate) use self::tun::{Feature, bring_up, open_ethernet, set_feature};
use crate::{Error, Result, netns::Netns};

/// What one direction does to packets.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// One way, added to the time on the wire.
    pub delay: Duration,
    /// Bits per second, IP headers included; `None` is as fast as the machine, 0 drops all.
    pub rate: Option<u64>,
    /// Share of packets lost, each on its own, 0 to 1.
    pub loss: f64,
    /// Bytes that may wait for the wire before more packets are dropped; 0 is one round trip's worth,
    /// at least 256 KiB. Only with a rate.
    pub queue: usize,
    /// Of the random numbers: the same seed loses the same packets of the same traffic.
    pub seed: u64,
}

impl Default for Shape {
    /// No delay, no loss, no bound on the rate.
    fn default() -> Shape {
        Shape::new(Duration::ZERO)
    }
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

    /// With that one-way delay.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Shape {
        Shape { delay, ..self }
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

    /// With that seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Shape {
        Shape { seed, ..self }
    }

    /// The same for the way back, with a seed of its own: losses of one way say nothing of the other's.
    fn back(&self) -> Shape {
        self.clone().seed(self.seed ^ 0x5bd1_e995)
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
    /// Writes that the receiving kernel refused: 0 unless the device was taken down or the link has
    /// damaged a packet.
    pub refused: u64,
    /// The most that a packet was sent on after its time, because the processor was busy.
    pub max_lateness: Duration,
}

/// Counts up; written by one thread.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a direction's thread shares with the [`Link`].
#[derive(Debug)]
struct Way {
    shape: Mutex<Shape>,
    /// One more with each change of the shape.
    generation: AtomicU64,
    stopping: AtomicBool,
    packets: Counter,
    bytes: Counter,
    lost: Counter,
    queue_drops: Counter,
    refused: Counter,
    lateness: AtomicU64,
}

impl Way {
    fn new(shape: Shape) -> Way {
        Way {
            shape: Mutex::new(shape),
            generation: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            packets: Counter::default(),
            bytes: Counter::default(),
            lost: Counter::default(),
            queue_drops: Counter::default(),
            refused: Counter::default(),
            lateness: AtomicU64::new(0),
        }
    }

    fn shape(&self) -> MutexGuard<'_, Shape> {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, shape: Shape) {
        *self.shape() = shape;
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn late(&self, by: Duration) {
        let by = by.as_nanos() as u64;
        if by > self.lateness.load(Ordering::Relaxed) {
            self.lateness.store(by, Ordering::Relaxed);
        }
    }
}

/// Two namespaces and the link between them, until dropped.
pub struct Link {
    /// Has 10.77.0.1 and fd77::1.
    pub a: Netns,
    /// Has 10.77.0.2 and fd77::2.
    pub b: Netns,
    ways: [Arc<Way>; 2],
    stop: Arc<EventFd>,
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
        let back = shape.back();
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
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(Error::doing("cannot make an eventfd"))?;
        let ways = [a_to_b, b_to_a].map(|shape| Arc::new(Way::new(shape)));
        let mut link = Link {
            a,
            b,
            ways,
            stop: Arc::new(stop),
            threads: Vec::new(),
        };
        let ends = [
            ("lab a to b", &tun_a, &tun_b),
            ("lab b to a", &tun_b, &tun_a),
        ];
        for ((name, from, to), way) in ends.into_iter().zip(&link.ways) {
            let (from, to, way) = (from.clone(), to.clone(), way.clone());
            let mut forwarder = forward::Forwarder::new(from, to, way, link.stop.clone());
            let thread = thread::Builder::new()
                .name(name.into())
                .spawn(move || forwarder.run())
                .map_err(Error::doing("cannot start a thread"))?;
            link.threads.push(thread);
        }
        Ok(link)
    }

    /// Changes both ways while the link runs. What already is on its way keeps its time; packets never
    /// overtake each other. Random numbers begin anew from the shapes' seeds.
    pub fn reshape(&self, a_to_b: Shape, b_to_a: Shape) {
        for (way, shape) in self.ways.iter().zip([a_to_b, b_to_a]) {
            way.set(shape);
        }
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
        [&self.ways[0], &self.ways[1]].map(|way| DirectionStats {
            packets: way.packets.get(),
            bytes: way.bytes.get(),
            lost: way.lost.get(),
            queue_drops: way.queue_drops.get(),
            refused: way.refused.get(),
            max_lateness: Duration::from_nanos(way.lateness.load(Ordering::Relaxed)),
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for way in &self.ways {
            way.stopping.store(true, Ordering::Relaxed);
        }
        // Nobody reads it, so both threads see it.
        let _ = self.stop.write(1);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
