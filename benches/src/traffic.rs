//! Traffic between namespaces: one bulk transfer, or many short connections.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::socket::{setsockopt, sockopt},
};

use crate::{Error, Result, netns::Netns};

/// How long a blocking call waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(100);
const CHUNK: usize = 256 << 10;
/// How long one short connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a transfer's sockets are set up.
#[derive(Clone, Debug, Default)]
pub struct TransferOptions {
    /// SO_SNDBUF: fixes the sender's buffer.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF: fixes the receiver's buffer.
    pub receive_buffer: Option<usize>,
    /// The sender's congestion control, such as "cubic"; the namespace's own where `None`.
    pub congestion_control: Option<String>,
    /// Compare every byte received with what was sent, not only the ends of each read: slower.
    pub check_all: bool,
}

/// A running bulk transfer over one TCP connection.
pub struct Transfer {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    started: Instant,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What a transfer moved.
#[derive(Clone, Copy, Debug)]
pub struct TransferReport {
    /// Bytes that the receiver read.
    pub bytes: u64,
    /// From connecting to stopping.
    pub duration: Duration,
}

impl TransferReport {
    /// Goodput.
    #[must_use]
    pub fn mbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.duration.as_secs_f64()
    }
}

/// The byte at a place of the stream, so that a receiver can tell what is right.
fn pattern(offset: u64) -> u8 {
    (offset ^ (offset >> 8) ^ (offset >> 16)) as u8
}

/// The first byte of a read that is not what was sent there.
fn wrong_byte(read: &[u8], offset: u64, all: bool) -> Option<usize> {
    let is_wrong = |&i: &usize| read[i] != pattern((offset + i as u64) & ((1 << 24) - 1));
    if all {
        (0..read.len()).find(is_wrong)
    } else {
        [0, read.len() - 1].into_iter().find(is_wrong)
    }
}

impl Transfer {
    /// Connects from a thread in `from` to a listener in `to` and sends until stopped.
    ///
    /// # Errors
    /// Where the connection cannot be made within 10 s.
    pub fn start(from: &Netns, to: &Netns, to_addr: IpAddr) -> Result<Transfer> {
        Transfer::start_with(from, to, to_addr, TransferOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// Where the connection cannot be made within 10 s.
    pub fn start_with(
        from: &Netns,
        to: &Netns,
        to_addr: IpAddr,
        options: TransferOptions,
    ) -> Result<Transfer> {
        let TransferOptions {
            send_buffer,
            receive_buffer,
            congestion_control,
            check_all,
        } = options;
        let listener = to
            .run(|| TcpListener::bind((to_addr, 0)))
            .map_err(Error::doing(format!("cannot listen on {to_addr}")))?;
        if let Some(bytes) = receive_buffer {
            setsockopt(&listener, sockopt::RcvBuf, &bytes).map_err(Error::doing("SO_RCVBUF"))?;
        }
        let address = listener
            .local_addr()
            .map_err(Error::doing("cannot ask for the port"))?;
        let mut sender = connect(from, address)?;
        if let Some(bytes) = send_buffer {
            setsockopt(&sender.as_fd(), sockopt::SndBuf, &bytes)
                .map_err(Error::doing("SO_SNDBUF"))?;
        }
        if let Some(name) = congestion_control {
            let what = format!(
                "cannot set congestion control {name} \
                 (see net.ipv4.tcp_available_congestion_control)"
            );
            setsockopt(&sender, sockopt::TcpCongestion, &name.into())
                .map_err(Error::doing(what))?;
        }
        // On a lossy link the last packet of the handshake may be a while behind: where a tenth is lost, one connection of
        // ten thousand takes more than 10 s.
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 60_000u16).map_err(Error::doing("cannot poll the listener"))? == 0 {
            let error = std::io::Error::from(ErrorKind::TimedOut);
            return Err(Error::doing("no connection arrived within 60 s")(error));
        }
        let (mut receiver, _) = listener.accept().map_err(Error::doing("cannot accept"))?;
        for stream in [&sender, &receiver] {
            reset_on_close(stream).map_err(Error::doing("SO_LINGER"))?;
            stream
                .set_read_timeout(Some(TICK))
                .map_err(Error::doing("SO_RCVTIMEO"))?;
            stream
                .set_write_timeout(Some(TICK))
                .map_err(Error::doing("SO_SNDTIMEO"))?;
        }
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let send = {
            let stop = stop.clone();
            from.spawn(move || {
                // A period of the pattern and a chunk more, so that any offset finds its bytes in a row.
                let period = 1usize << 24;
                let data: Vec<u8> = (0..(period + CHUNK) as u64)
                    .map(|i| pattern(i & (period as u64 - 1)))
                    .collect();
                let mut sent = 0usize;
                while !stop.load(Ordering::Relaxed) {
                    let at = sent & (period - 1);
                    match sender.write(&data[at..at + CHUNK]) {
                        Ok(count) => sent += count,
                        Err(error) if is_timeout(&error) => {}
                        // The receiver stopped first and closed with bytes unread.
                        Err(_) if stop.load(Ordering::Relaxed) => {}
                        Err(error) => return Err(Error::doing("cannot send")(error)),
                    }
                }
                Ok(())
            })
        };
        let receive = {
            let (stop, received) = (stop.clone(), received.clone());
            to.spawn(move || {
                let mut buffer = vec![0; CHUNK];
                let mut offset = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    match receiver.read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(count) => {
                            if let Some(i) = wrong_byte(&buffer[..count], offset, check_all) {
                                let what =
                                    format!("byte {} of the stream is wrong", offset + i as u64);
                                return Err(Error::other(what, "the link damaged it"));
                            }
                            offset += count as u64;
                            received.store(offset, Ordering::Relaxed);
                        }
                        Err(error) if is_timeout(&error) => {}
                        Err(_) if stop.load(Ordering::Relaxed) => {}
                        Err(error) => return Err(Error::doing("cannot receive")(error)),
                    }
                }
                Ok(())
            })
        };
        Ok(Transfer {
            received,
            stop,
            started,
            threads: vec![receive, send],
        })
    }

    /// Bytes that the receiver has read so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Goodput over the next so long, in Mbit/s.
    #[must_use]
    pub fn measure(&self, how_long: Duration) -> f64 {
        let (start, before) = (Instant::now(), self.received());
        std::thread::sleep(how_long);
        (self.received() - before) as f64 * 8e-6 / start.elapsed().as_secs_f64()
    }

    /// Ends the transfer.
    ///
    /// # Errors
    /// Where either side failed, or received bytes that were not sent.
    pub fn stop(mut self) -> Result<TransferReport> {
        let report = TransferReport {
            bytes: self.received(),
            duration: self.started.elapsed(),
        };
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread
                .join()
                .map_err(|_| Error::other("a transfer's thread", "panicked"))??;
        }
        Ok(report)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// SO_LINGER 0: ports are free at once, and a process that is killed leaves no connection that would
/// keep its namespace until TCP has given up on what was not sent.
pub(crate) fn reset_on_close(stream: &TcpStream) -> nix::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &linger)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn connect(from: &Netns, address: SocketAddr) -> Result<TcpStream> {
    from.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(60)))
        .map_err(Error::doing(format!("cannot connect to {address}")))
}

/// Connects, exchanges 64 bytes and closes, one after the other, and gives the rate. Connections are
/// reset at the end (SO_LINGER 0), so that ports do not run out.
///
/// # Errors
/// Where a connection fails.
pub fn connections_per_second(
    client: &Netns,
    server: &Netns,
    address: IpAddr,
    how_long: Duration,
) -> Result<f64> {
    let listener = server
        .run(|| TcpListener::bind((address, 0)))
        .map_err(Error::doing(format!("cannot listen on {address}")))?;
    let address = listener
        .local_addr()
        .map_err(Error::doing("cannot ask for the port"))?;
    listener
        .set_nonblocking(true)
        .map_err(Error::doing("cannot poll the listener"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let echo = server.spawn({
        let stop = stop.clone();
        move || {
            let mut bytes = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, 100u8);
                while let Ok((mut stream, _)) = listener.accept() {
                    let served = stream
                        .set_nonblocking(false)
                        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
                        .and_then(|()| stream.read_exact(&mut bytes))
                        .and_then(|()| stream.write_all(&bytes));
                    // The client notices a connection that was not served.
                    drop(served);
                }
            }
        }
    });
    let result = client.run(|| -> std::io::Result<f64> {
        let started = Instant::now();
        let mut count = 0;
        let mut bytes = [0; 64];
        while started.elapsed() < how_long {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            reset_on_close(&stream)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)?;
            count += 1;
        }
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    });
    stop.store(true, Ordering::Relaxed);
    let _ = echo.join();
    result.map_err(Error::doing("short connections"))
}
