//! Bursts of datagrams, and a reader that looks now and then.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Scenario, Stage, Values, host::HostValues};
use crate::{Error, Result, netns::Netns};

/// 1,200 datagrams in a row, ten times a second, to a server that runs since before the daemon. It reads all that waits
/// each 20 ms.
pub(super) struct Burst;

impl Burst {
    const DATAGRAMS: usize = 1200;
    const BYTES: usize = 1000;
    const BURSTS: u32 = 10;
    const READS: Duration = Duration::from_millis(20);
}

impl Scenario for Burst {
    fn tuner(&self) -> &'static str {
        "udp-buffer"
    }

    fn name(&self) -> &'static str {
        "bursts of 1,200 datagrams"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("datagrams received", "%")
    }

    fn by_hand(&self) -> Values {
        &[
            ("net.core.rmem_max", "16777216"),
            ("net.core.rmem_default", "8388608"),
        ]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.core.rmem_default", "212992")?;
        Ok(Box::new(BurstStage {
            netns: Netns::new()?,
            reader: None,
            _host: host,
        }))
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct BurstStage {
    reader: Option<Reader>,
    netns: Netns,
    _host: HostValues,
}

impl Stage for BurstStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn begin(&mut self) -> Result<()> {
        self.reader = Some(Reader::start(&self.netns)?);
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let reader = self.reader.as_ref().expect("begun");
        let before = reader.received.load(Ordering::Relaxed);
        let address = reader.address;
        let sent = self.netns.run(|| send(address))?;
        std::thread::sleep(2 * Burst::READS);
        let received = reader.received.load(Ordering::Relaxed) - before;
        Ok(received as f64 * 100.0 / sent as f64)
    }
}

/// A second of bursts; how many datagrams those were.
fn send(to: SocketAddr) -> Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(Error::doing("cannot make a socket"))?;
    let mut sent = 0;
    for _ in 0..Burst::BURSTS {
        let start = Instant::now();
        for _ in 0..Burst::DATAGRAMS {
            sent += u64::from(socket.send_to(&[0; Burst::BYTES], to).is_ok());
        }
        let beat = Duration::from_secs(1) / Burst::BURSTS;
        std::thread::sleep(beat.saturating_sub(start.elapsed()));
    }
    Ok(sent)
}

/// Reads all that waits, then sleeps.
struct Reader {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(netns: &Netns) -> Result<Reader> {
        let socket = netns
            .run(|| UdpSocket::bind("127.0.0.1:0"))
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(Error::doing("cannot make a socket"))?;
        let address = socket
            .local_addr()
            .map_err(Error::doing("cannot ask for the port"))?;
        let (received, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || {
                let mut datagram = [0; Burst::BYTES];
                while !stop.load(Ordering::Relaxed) {
                    while socket.recv(&mut datagram).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::sleep(Burst::READS);
                }
            }
        });
        Ok(Reader {
            address,
            received,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
