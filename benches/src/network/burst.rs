//! Many clients at once, and a server that takes its time.

use std::{
    io::{ErrorKind, Write},
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
            sockopt,
        },
    },
    unistd::read,
};

use crate::{Error, Result, netns::Netns};

/// A server that accepts all that waits, says a byte to each and closes, then sleeps.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// With a backlog of its choice, which the kernel may cut down.
    pub(super) fn start(
        netns: &Netns,
        address: SockaddrIn,
        backlog: u32,
        sleeps: Duration,
    ) -> Result<Server> {
        let listener = netns
            .run(|| -> nix::Result<OwnedFd> {
                let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
                let listener = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
                setsockopt(&listener, sockopt::ReuseAddr, &true)?;
                bind(listener.as_raw_fd(), &address)?;
                // nix's own lets no backlog pass that is longer than the C library's constant.
                // SAFETY: a descriptor that we own and a number.
                Errno::result(unsafe { libc::listen(listener.as_raw_fd(), backlog as i32) })?;
                Ok(listener)
            })
            .map_err(Error::doing("cannot listen"))?;
        let listener = TcpListener::from(listener);
        let address = listener
            .local_addr()
            .map_err(Error::doing("cannot ask for the port"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = netns.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                loop {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            let _ = stream.write_all(b"!");
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => {}
                    }
                }
                std::thread::sleep(sleeps);
            }
        });
        Ok(Server {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Connects so many times from a namespace, spread evenly over a time, and counts those that got their byte within
/// `patience` of their start.
pub(super) fn served(
    netns: &Netns,
    to: SockaddrIn,
    count: usize,
    spread: Duration,
    patience: Duration,
) -> Result<usize> {
    netns
        .run(|| clients(to, count, spread, patience))
        .map_err(Error::doing("clients"))
}

fn clients(
    to: SockaddrIn,
    count: usize,
    spread: Duration,
    patience: Duration,
) -> nix::Result<usize> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut waiting: Vec<Option<(OwnedFd, Instant)>> = Vec::with_capacity(count);
    let (start, mut served, mut over) = (Instant::now(), 0, 0);
    let mut events = vec![EpollEvent::empty(); 256];
    while over < count {
        while waiting.len() < count
            && start.elapsed() >= spread * waiting.len() as u32 / count as u32
        {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let client = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&client, sockopt::Linger, &linger)?;
            match connect(client.as_raw_fd(), &to) {
                Ok(()) | Err(Errno::EINPROGRESS) => {}
                Err(errno) => return Err(errno),
            }
            let event = EpollEvent::new(EpollFlags::EPOLLIN, waiting.len() as u64);
            epoll.add(&client, event)?;
            waiting.push(Some((client, Instant::now())));
        }
        let found = epoll.wait(&mut events, EpollTimeout::from(2u8))?;
        for event in &events[..found] {
            let Some((client, began)) = waiting[event.data() as usize].take() else {
                continue;
            };
            over += 1;
            let answered = read(&client, &mut [0]) == Ok(1);
            served += usize::from(answered && began.elapsed() <= patience);
        }
        for slot in &mut waiting {
            if slot
                .as_ref()
                .is_some_and(|(_, began)| began.elapsed() > patience)
            {
                *slot = None;
                over += 1;
            }
        }
    }
    Ok(served)
}

/// An IPv4 address for sockets.
pub(super) fn ipv4(address: SocketAddr) -> SockaddrIn {
    match address {
        SocketAddr::V4(address) => SockaddrIn::from(address),
        SocketAddr::V6(_) => SockaddrIn::new(0, 0, 0, 0, 0),
    }
}
