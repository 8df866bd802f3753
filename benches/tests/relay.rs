//! Two tuners on one tracepoint: each is told what is its own, whoever came before it and whoever is gone.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use bpftune_core::{Source, engine::Registration, netns::Namespaces};
use bpftune_tuners::{tcp_listen, tcp_ports};
use lab::netns::Netns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longer than a gate stays shut.
const REST: Duration = Duration::from_millis(150);

fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Waits a second for events, and takes them: whether there were any, and how many signals of this namespace they made.
fn drain(source: &mut dyn Source) -> (bool, usize) {
    let mut fds = [PollFd::new(source.fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
    let (mut namespaces, mut signals) = (Namespaces::new().unwrap(), Vec::new());
    source.drain(&mut namespaces, &mut signals).unwrap();
    let own = namespaces.own();
    signals.retain(|signal| signal.netns == own);
    (ready == 1, signals.len())
}

/// A connection that finds no port: whether `ports` tells of it.
fn no_port(ports: &mut dyn Source) -> bool {
    thread::sleep(REST);
    let (_listener, address) = listener();
    sysctl("ipv4/ip_local_port_range", "40000 40000");
    let _holds_it = TcpStream::connect(address).unwrap();
    let error = TcpStream::connect(address).unwrap_err();
    sysctl("ipv4/ip_local_port_range", "32768 60999");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    drain(ports).1 == 1
}

/// A queue that is nearly full.
fn full_queue() -> (TcpListener, [TcpStream; 2]) {
    thread::sleep(REST);
    let (listener, address) = listener();
    let waiting = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    (listener, waiting)
}

fn come_and_go() {
    sysctl("core/somaxconn", "2");

    let source = |registration: Registration| registration.source;
    let mut listen = source(tcp_listen::load().unwrap());
    let mut ports = source(tcp_ports::load().unwrap());
    let queue = full_queue();
    assert!(drain(&mut *listen).0, "the first of two");
    assert_eq!(drain(&mut *ports).1, 0, "what is not its own");
    drop(queue);
    assert!(no_port(&mut *ports), "the second of two");

    drop(listen);
    assert!(no_port(&mut *ports), "after the first has gone");
    let mut listen = source(tcp_listen::load().unwrap());
    let queue = full_queue();
    assert!(drain(&mut *listen).0, "behind the other one");
    drop(queue);
    let mut last = source(tcp_ports::load().unwrap());
    drop(listen);
    assert!(no_port(&mut *last), "after the middle has gone");
    drain(&mut *ports);
    assert!(no_port(&mut *ports), "still the first");
    drop(last);
    assert!(no_port(&mut *ports), "after the last has gone");

    // Longer than one line may be, which is no matter.
    let many = [(); 20].map(|()| source(tcp_listen::load().unwrap()));
    let mut last = source(tcp_ports::load().unwrap());
    drop(ports);
    assert!(no_port(&mut *last), "the last of many");
    drop(many);
    assert!(no_port(&mut *last), "alone");
}

#[test]
fn each_of_a_line_hears_its_own() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: not root");
        return;
    }
    Netns::new().unwrap().run(come_and_go);
}
