//! Packets that a hash hands to processors, whoever reads them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bpftune_core::Cpus;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{
    THROUGHPUT,
    irq_steer::{TUNER, needs},
    no_fault::NoFault,
    workers::Workers,
};
use crate::{
    Error, Result,
    netns::Netns,
    network::{HostValues, Scenario, Stage, Values},
    processor::stay_on,
    veth::{Pair, write_queue},
};

const PORT: u16 = 9;
const CONNECTIONS: usize = 64;
/// Bytes of a question, and of its answer.
const MESSAGE: usize = 200;
/// Processors that the load runs on.
const PROCESSORS: usize = 2;

/// Connections whose ends each ask and answer as fast as they can, by a thread for each end on each processor.
struct Talk {
    threads: Workers,
    pair: Pair,
    /// Whether a connection's ends are on different processors.
    crossed: bool,
    answered: Arc<AtomicU64>,
    _host: HostValues,
}

impl Talk {
    fn stage(crossed: bool) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.core.rps_sock_flow_entries", "0")?;
        let pair = Pair::new()?;
        for netns in [&pair.near, &pair.far] {
            write_queue(netns, "rps_cpus", &Cpus::online().mask())?;
        }
        Ok(Box::new(Talk {
            threads: Workers::default(),
            pair,
            crossed,
            answered: Arc::default(),
            _host: host,
        }))
    }

    /// Both ends of each connection, those who ask first.
    fn connect(&self) -> std::io::Result<[Vec<TcpStream>; 2]> {
        let listener = self.pair.far.run(|| TcpListener::bind((Pair::FAR, PORT)))?;
        let connect = || TcpStream::connect((Pair::FAR, PORT));
        let mut ends = [Vec::new(), Vec::new()];
        for _ in 0..CONNECTIONS {
            let asks = self.pair.near.run(connect)?;
            let (answers, _) = listener.accept()?;
            for (ends, end) in ends.iter_mut().zip([asks, answers]) {
                end.set_nodelay(true)?;
                end.set_nonblocking(true)?;
                ends.push(end);
            }
        }
        Ok(ends)
    }
}

impl Stage for Talk {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.pair.near, &self.pair.far]
    }

    fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        if name != "rps_flow_cnt" {
            return Ok(false);
        }
        for netns in self.places() {
            write_queue(netns, name, value)?;
        }
        Ok(true)
    }

    fn begin(&mut self) -> Result<()> {
        let [asks, answers] = self
            .connect()
            .map_err(Error::doing("cannot connect the two namespaces"))?;
        let first = usize::from(self.crossed);
        let sides = [
            (&self.pair.far, answers, 0, None),
            (&self.pair.near, asks, first, Some(&self.answered)),
        ];
        for (netns, ends, first, count) in sides {
            let mut on: [Vec<TcpStream>; PROCESSORS] = Default::default();
            for (number, end) in ends.into_iter().enumerate() {
                on[(number + first) % PROCESSORS].push(end);
            }
            for (processor, ends) in on.into_iter().enumerate() {
                let (over, count) = (self.threads.over(), count.cloned());
                // Inside, as programs are: so the daemon finds the namespace.
                self.threads.add(netns.spawn(move || {
                    stay_on(processor)?;
                    echo(ends, &over, count.as_deref()).map_err(Error::doing("cannot talk"))
                }));
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        Ok(self.threads.per_second(&self.answered)? / 1000.0)
    }
}

/// Sends back what comes, until it is over. Who counts answers has asked first.
fn echo(
    mut ends: Vec<TcpStream>,
    over: &AtomicBool,
    answered: Option<&AtomicU64>,
) -> std::io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (number, end) in ends.iter_mut().enumerate() {
        epoll.add(&*end, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
        if answered.is_some() {
            end.write_all(&[7; MESSAGE])?;
        }
    }
    let (mut events, mut message) = ([EpollEvent::empty(); CONNECTIONS], [0; MESSAGE]);
    while !over.load(Ordering::Relaxed) {
        let ready = epoll.wait(&mut events, EpollTimeout::from(100u8))?;
        for event in &events[..ready] {
            let end = &mut ends[event.data() as usize];
            let length = end.read(&mut message)?;
            end.write_all(&message[..length])?;
            if let Some(answered) = answered {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

const ANSWERS: (&str, &str) = ("answers", "thousand/s");

/// Client and server of each of 64 connections on one processor, and a hash that sends half of what they say over the other.
pub(super) struct Strays;

impl Scenario for Strays {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "64 connections steered by a hash"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ANSWERS
    }
    fn by_hand(&self) -> Values {
        &[
            ("rps_flow_cnt", "32768"),
            ("net.core.rps_sock_flow_entries", "32768"),
        ]
    }
    fn turns(&self) -> usize {
        6
    }
    fn turns_on(&self) -> usize {
        12
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        needs()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Talk::stage(false)
    }
}

/// The same with each client on the other processor than its server: whoever follows finds no gain.
pub(super) const CROSSED: NoFault =
    NoFault::trap(TUNER, "64 connections between processors", ANSWERS, || {
        Talk::stage(true)
    })
    .runs(30)
    .turns(6, 16)
    .needs(needs);
