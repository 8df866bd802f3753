//! Connections that begin with too small a window, and TCP as a whole at its limit with memory to spare.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Scenario, Stage, Values, host::HostValues};
use crate::{
    Error, Result,
    link::{Link, Shape},
    netns::Netns,
    scenario::{LARGE, set_buffers},
    traffic::Transfer,
};

/// Answers of 64 KiB one after the other, each on a connection of its own, over 20 ms to a client whose buffers begin with
/// 8 KiB.
pub(super) struct Short;

impl Short {
    const BYTES: usize = 64 << 10;
}

impl Scenario for Short {
    fn tuner(&self) -> &'static str {
        "tcp-buffer"
    }

    fn name(&self) -> &'static str {
        "short connections"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("answers of 64 KiB", "/s")
    }

    fn by_hand(&self) -> Values {
        &[("net.ipv4.tcp_rmem", "4096 131072 6291456")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let link = Link::new(Shape::new(Duration::from_millis(10)).rate(1_000_000_000))?;
        link.a
            .set_sysctl("net.ipv4.tcp_rmem", "4096 8192 6291456")?;
        let server = Answers::start(&link)?;
        Ok(Box::new(ShortStage { server, link }))
    }
}

struct ShortStage {
    // Before the link: it is inside.
    server: Answers,
    link: Link,
}

impl Drop for ShortStage {
    fn drop(&mut self) {
        self.server.stop.store(true, Ordering::Relaxed);
        // It waits for somebody.
        let _ = self.link.b.run(|| TcpStream::connect(self.server.address));
        if let Some(thread) = self.server.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stage for ShortStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.a]
    }

    fn turn(&mut self) -> Result<f64> {
        let to = self.server.address;
        let asked = || -> std::io::Result<f64> {
            let (start, mut count) = (Instant::now(), 0);
            let mut answer = Vec::with_capacity(Short::BYTES);
            while start.elapsed() < Duration::from_secs(1) {
                let mut stream = TcpStream::connect(to)?;
                stream.write_all(b"?")?;
                answer.clear();
                stream.read_to_end(&mut answer)?;
                count += usize::from(answer.len() == Short::BYTES);
            }
            Ok(count as f64 / start.elapsed().as_secs_f64())
        };
        self.link
            .a
            .run(asked)
            .map_err(Error::doing("short connections"))
    }
}

/// A server that gives an answer to whoever asks, and closes.
struct Answers {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answers {
    fn start(link: &Link) -> Result<Answers> {
        let failed = || Error::doing("cannot listen");
        let listener = link
            .b
            .run(|| TcpListener::bind((link.addr_b(), 0)))
            .map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = link.b.spawn(move || {
            let answer = vec![7; Short::BYTES];
            for mut stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let asked = stream.read_exact(&mut [0]);
                // The client counts what it got.
                let _ = asked.and_then(|()| stream.write_all(&answer));
            }
        });
        Ok(Answers {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

/// Four transfers at once over 1 Gbit/s and 20 ms, on a host whose TCP may hold 8 MiB. Their windows alone are 2.5 MB.
pub(super) struct Memory;

impl Scenario for Memory {
    fn tuner(&self) -> &'static str {
        "tcp-buffer"
    }

    fn name(&self) -> &'static str {
        "TCP at its memory limit"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("goodput of four transfers", "Mbit/s")
    }

    /// What a kernel starts with that has 16 GiB.
    fn by_hand(&self) -> Values {
        &[("net.ipv4.tcp_mem", "196608 262144 393216")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.ipv4.tcp_mem", "1024 1536 2048")?;
        let link = Link::new(Shape::new(Duration::from_millis(10)).rate(1_000_000_000))?;
        set_buffers(&link, LARGE)?;
        Ok(Box::new(MemoryStage {
            transfers: Vec::new(),
            link,
            _host: host,
        }))
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct MemoryStage {
    // Before the link: they are inside.
    transfers: Vec<Transfer>,
    link: Link,
    _host: HostValues,
}

impl Stage for MemoryStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.link.a, &self.link.b]
    }

    fn begin(&mut self) -> Result<()> {
        let to = IpAddr::from(self.link.addr_b());
        for _ in 0..4 {
            let transfer = Transfer::start(&self.link.a, &self.link.b, to)?;
            self.transfers.push(transfer);
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let before: u64 = self.transfers.iter().map(Transfer::received).sum();
        std::thread::sleep(Duration::from_secs(1));
        let after: u64 = self.transfers.iter().map(Transfer::received).sum();
        Ok((after - before) as f64 * 8e-6)
    }
}
