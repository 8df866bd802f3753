//! Packets that one processor takes in while another has nothing to do.

use std::{
    fmt::Write as _,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bpftune_core::Cpus;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use super::{THROUGHPUT, no_fault::NoFault, workers::Workers};
use crate::{
    Error, Result,
    netns::Netns,
    network::{Scenario, Stage, Values},
    processor::stay_on,
    programs,
    veth::Pair,
};

pub(super) const TUNER: &str = "irq-steer";
const PORT: u16 = 9;
/// Streams of datagrams: each has a source port of its own, by which its packets find their processor.
/// The same ones in each run, so that they are parted alike.
const STREAMS: std::ops::Range<u16> = 20_000..20_256;
/// Rules of a firewall, one a blocked address, that each packet is compared with.
const RULES: usize = 2000;

pub(super) fn needs() -> Option<&'static str> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Some("it takes two processors");
    }
    programs::no_nft().or_else(programs::no_ip)
}

/// A firewall of a few rules that no packet here meets.
fn guard(netns: &Netns) -> Result<()> {
    let mut rules =
        String::from("table ip wall {\nchain in {\ntype filter hook prerouting priority 0\n");
    for rule in 0..RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(rules, "ip saddr 10.8.{}.{} drop", rule / 250, rule % 250);
    }
    rules.push_str("}\n}\n");
    programs::nft(netns, &rules)
}

/// What the load is.
#[derive(Clone, Copy)]
struct Load {
    /// Datagrams a second at most; 0: as fast as it can.
    rate: u64,
    /// What a datagram costs who reads it, on processor 1.
    work: Duration,
}

/// Datagrams from processor 0 of one namespace to a reader in another one.
struct Traffic {
    threads: Workers,
    pair: Pair,
    load: Load,
    received: Arc<AtomicU64>,
}

impl Traffic {
    fn stage(load: Load) -> Result<Box<dyn Stage>> {
        let pair = Pair::new()?;
        guard(&pair.far)?;
        Ok(Box::new(Traffic {
            threads: Workers::default(),
            pair,
            load,
            received: Arc::default(),
        }))
    }
}

impl Stage for Traffic {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.pair.far]
    }

    fn set(&mut self, name: &str, _: &str) -> Result<bool> {
        if name != "rps_cpus" {
            return Ok(false);
        }
        self.pair.steer(&Cpus::online()).map(|()| true)
    }

    fn begin(&mut self) -> Result<()> {
        let (load, over, received) = (self.load, self.threads.over(), self.received.clone());
        let reader = move || read(load, &over, &received);
        self.threads.add(self.pair.far.spawn(reader));
        let over = self.threads.over();
        let sender = move || send(load, &over);
        self.threads.add(self.pair.near.spawn(sender));
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        Ok(self.threads.per_second(&self.received)? / 1000.0)
    }
}

fn read(load: Load, over: &AtomicBool, received: &AtomicU64) -> Result<()> {
    let failed = || Error::doing::<std::io::Error>("cannot make a receiver");
    if !load.work.is_zero() {
        stay_on(1)?;
    }
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).map_err(failed())?;
    let wait = Some(Duration::from_millis(100));
    socket.set_read_timeout(wait).map_err(failed())?;
    setsockopt(&socket, RcvBufForce, &(4 << 20)).map_err(Error::doing("cannot make a receiver"))?;
    let mut datagram = [0; 256];
    while !over.load(Ordering::Relaxed) {
        if socket.recv(&mut datagram).is_err() {
            continue;
        }
        let start = Instant::now();
        while start.elapsed() < load.work {
            std::hint::spin_loop();
        }
        received.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn send(load: Load, over: &AtomicBool) -> Result<()> {
    stay_on(0)?;
    let failed = || Error::doing("cannot make a sender");
    let far = SocketAddr::from((Pair::FAR, PORT));
    let sockets = STREAMS
        .map(|port| {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            socket.connect(far).map(|()| socket)
        })
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed())?;
    let (start, mut sent) = (Instant::now(), 0u64);
    while !over.load(Ordering::Relaxed) {
        for socket in &sockets {
            // Refused while nobody listens yet, or a queue is full.
            let _ = socket.send(&[7; 100]);
        }
        sent += sockets.len() as u64;
        if load.rate > 0 {
            let due = Duration::from_secs_f64(sent as f64 / load.rate as f64);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    Ok(())
}

const RECEIVED: (&str, &str) = ("datagrams read", "thousand/s");

/// As many datagrams as processor 0 can send through a firewall to somebody else, 256 streams of them.
pub(super) struct Flood;

impl Scenario for Flood {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "256 streams through one processor"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        RECEIVED
    }
    fn by_hand(&self) -> Values {
        &[("rps_cpus", "all")]
    }
    fn runs(&self) -> u32 {
        12
    }
    fn turns(&self) -> usize {
        6
    }
    fn turns_on(&self) -> usize {
        9
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    /// So that no other tuner runs: what the daemon costs here is this one's.
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        needs()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Traffic::stage(Load {
            rate: 0,
            work: Duration::ZERO,
        })
    }
}

/// The same to a reader who needs most of processor 1: more packets would be taken in and fewer read.
pub(super) const BUSY_READER: NoFault = NoFault::trap(
    TUNER,
    "a reader who needs the other processor",
    RECEIVED,
    || {
        Traffic::stage(Load {
            rate: 0,
            work: Duration::from_micros(8),
        })
    },
)
.by_hand(&[("rps_cpus", "all")])
.runs(25)
.turns(6, 12)
.needs(needs);

/// A thousandth of that: no processor is busy.
pub(super) const NOTHING_WRONG: NoFault =
    NoFault::nothing_wrong(TUNER, "8,000 datagrams a second", RECEIVED, || {
        Traffic::stage(Load {
            rate: 8000,
            work: Duration::ZERO,
        })
    })
    .needs(needs);
