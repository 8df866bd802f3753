//! An echo server in inetd's way: accepts on a ring, and runs `cat` for each connection, whose
//! start and end are completions on the same ring.
//!
//! cargo run -p uring-process --example echo_server -- 7007      then: nc 127.0.0.1 7007
//!
//! Without a port it serves three connections of its own, and ends.

use std::{
    env,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
};

use io_uring::{IoUring, opcode::Accept, types::Fd};
use uring_process::{
    Command,
    ring::{Event, Spawner},
};

/// `user_data` of our own entries. The spawner's carry its tag, 7, in their upper 16 bits.
const ACCEPTED: u64 = 1;

fn main() -> io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok());
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0)))?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let clients = port
        .is_none()
        .then(|| thread::spawn(move || (0..3).try_for_each(|n| client(n, address))));
    serve(&listener, clients.as_ref().map(|_| 3))?;
    match clients.map(thread::JoinHandle::join) {
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(io::Error::other("a client panicked")),
        None => Ok(()),
    }
}

/// Serves connections, for ever or so many.
fn serve(listener: &TcpListener, connections: Option<usize>) -> io::Result<()> {
    let mut ring = IoUring::new(64)?;
    let mut spawner = Spawner::new(&ring, 7)?;
    let accept = || {
        let (address, length) = (std::ptr::null_mut(), std::ptr::null_mut());
        Accept::new(Fd(listener.as_raw_fd()), address, length)
            .build()
            .user_data(ACCEPTED)
    };
    let mut next = Some(accept());
    let mut ended = 0;
    while connections.is_none_or(|all| ended < all) {
        if let Some(entry) = next.take() {
            // SAFETY: the entry points at nothing; the listener outlives the ring.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        spawner.push(&mut ring.submission());
        ring.submit_and_wait(1)?;
        let completions: Vec<_> = ring
            .completion()
            .map(|c| (c.user_data(), c.result()))
            .collect();
        for (user_data, result) in completions {
            if spawner.complete(user_data, result) {
                continue;
            }
            next = Some(accept());
            if result < 0 {
                eprintln!("accept: {}", io::Error::from_raw_os_error(-result));
                continue;
            }
            // SAFETY: a descriptor that the kernel has just made for us.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            // The plan is dropped at once, and with it our end: `cat` alone holds the connection.
            let plan = Command::new("cat")
                .stdin(socket.try_clone()?)
                .stdout(socket)
                .plan()?;
            if let Err(error) = spawner.submit(&plan) {
                eprintln!("{error}");
            }
        }
        while let Some(event) = spawner.next_event() {
            match event {
                Event::Started(started) => println!("{}: serves", started.pid),
                Event::Failed { error, .. } => {
                    eprintln!("{error}");
                    ended += 1;
                }
                Event::Ended { pid, status, .. } => {
                    let status = status.map_or("ended".into(), |status| status.to_string());
                    println!("{pid}: {status}");
                    ended += 1;
                }
            }
        }
    }
    Ok(())
}

fn client(number: usize, address: std::net::SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let text = format!("hello, number {number}");
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = String::new();
    stream.read_to_string(&mut back)?;
    if back == text {
        Ok(())
    } else {
        Err(io::Error::other(format!("sent {text:?}, got {back:?}")))
    }
}
