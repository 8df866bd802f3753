//! Clients that run out of local ports.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Scenario, Stage, Values, rest_of_second};
use crate::{
    Error, Result,
    link::{Link, Shape},
    netns::Netns,
    traffic::reset_on_close,
};

/// A thousand ports for connections that go out.
const FEW: &str = "32768 33767";
const PATIENCE: Duration = Duration::from_secs(1);

/// 300 short connections a second, each closed by the client: its port stays taken for a minute.
pub(super) struct TimeWait;

/// 200 connections a second, each held: the ports are gone after five seconds.
pub(super) struct Held;

impl Scenario for TimeWait {
    fn tuner(&self) -> &'static str {
        "tcp-ports"
    }

    fn name(&self) -> &'static str {
        "ports in TIME_WAIT"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("connections made of those tried", "%")
    }

    fn by_hand(&self) -> Values {
        &[
            ("net.ipv4.tcp_tw_reuse", "1"),
            ("net.ipv4.ip_local_port_range", "10240 65535"),
        ]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        PortsStage::staged(300, 0)
    }
}

impl Scenario for Held {
    fn tuner(&self) -> &'static str {
        "tcp-ports"
    }

    fn name(&self) -> &'static str {
        "ports in use"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("connections made of those tried", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.ipv4.ip_local_port_range", "10240 65535")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        PortsStage::staged(200, 20)
    }

    /// The first five fill the range.
    fn turns(&self) -> usize {
        16
    }
}

struct PortsStage {
    tries: usize,
    /// Connections are kept for so many turns and then reset; 0: closed at once, in good order.
    keeps: usize,
    held: VecDeque<Vec<TcpStream>>,
    server: Option<Keeper>,
    link: Link,
}

impl PortsStage {
    fn staged(tries: usize, keeps: usize) -> Result<Box<dyn Stage>> {
        let link = Link::new(Shape::new(Duration::ZERO))?;
        link.a.set_sysctl("net.ipv4.ip_local_port_range", FEW)?;
        Ok(Box::new(PortsStage {
            tries,
            keeps,
            held: VecDeque::new(),
            server: None,
            link,
        }))
    }
}

impl Stage for PortsStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.a]
    }

    fn begin(&mut self) -> Result<()> {
        let address = (self.link.addr_b(), 0).into();
        self.server = Some(Keeper::start(&self.link.b, address)?);
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        if self.held.len() >= self.keeps {
            self.held.pop_front();
        }
        let (tries, keeps) = (self.tries, self.keeps > 0);
        let address = self.server.as_ref().expect("begun").address;
        let (count, kept) = self
            .link
            .a
            .run(|| connections(address, tries, keeps))
            .map_err(Error::doing("cannot connect"))?;
        if keeps {
            self.held.push_back(kept);
        }
        rest_of_second(start);
        Ok(count as f64 * 100.0 / tries as f64)
    }
}

/// Tries so often within a second; how many found a port, and those that are kept.
fn connections(
    address: SocketAddr,
    tries: usize,
    keeps: bool,
) -> std::io::Result<(usize, Vec<TcpStream>)> {
    let (start, mut count, mut kept) = (Instant::now(), 0, Vec::new());
    for at in 0..tries {
        let due = Duration::from_millis(950) * at as u32 / tries as u32;
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                count += 1;
                if keeps {
                    reset_on_close(&stream)?;
                    kept.push(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            Err(error) => return Err(error),
        }
    }
    Ok((count, kept))
}

/// A server that keeps each connection until its client closes.
struct Keeper {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    fn start(netns: &Netns, address: SocketAddr) -> Result<Keeper> {
        let listener = netns
            .run(|| {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(listener)
            })
            .map_err(Error::doing("cannot listen"))?;
        let address = listener
            .local_addr()
            .map_err(Error::doing("cannot ask for the port"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = netns.spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((stream, _)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok() {
                        open.push(stream);
                    }
                }
                // Closed where there is an end or an error to read.
                open.retain_mut(|stream| {
                    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
                });
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Ok(Keeper {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
