//! Two tuners on one tracepoint: each is told what is its own, whoever came before it and whoever is gone.
#![cfg(all(feature = "tcp-listen", feature = "tcp-ports"))]

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use bpftune_core::{Source, engine::Registration, netns::Namespaces};
use bpftune_tuners::{tcp_listen, tcp_ports};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
};

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

/// Whether it has something to say within a second, which is then said.
fn speaks(source: &mut dyn Source) -> bool {
    let fd = source.fd();
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
    let mut namespaces = Namespaces::new().unwrap();
    source.drain(&mut namespaces, &mut Vec::new()).unwrap();
    ready == 1
}

/// Whether it tells of a connection that found no port.
fn hears_of_no_port(source: &mut dyn Source) -> bool {
    thread::sleep(REST);
    let (_listener, address) = listener();
    sysctl("ipv4/ip_local_port_range", "40000 40000");
    let _holds_it = TcpStream::connect(address).unwrap();
    let error = TcpStream::connect(address).unwrap_err();
    sysctl("ipv4/ip_local_port_range", "32768 60999");
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    speaks(source)
}

/// Whether it tells of a queue that is nearly full.
fn hears_of_a_queue(source: &mut dyn Source) -> bool {
    thread::sleep(REST);
    let (_listener, address) = listener();
    let _waiting = [(); 2].map(|()| TcpStream::connect(address).unwrap());
    speaks(source)
}

fn come_and_go() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let up = ["link", "set", "lo", "up"];
    assert!(Command::new("ip").args(up).status().unwrap().success());
    sysctl("core/somaxconn", "2");

    let source = |registration: Registration| registration.source;
    let mut listen = source(tcp_listen::load().unwrap());
    let mut ports = source(tcp_ports::load().unwrap());
    assert!(hears_of_a_queue(&mut *listen), "the first of two");
    assert!(hears_of_no_port(&mut *ports), "the second of two");
    assert!(!hears_of_a_queue(&mut *ports), "what is not its own");

    drop(listen);
    assert!(hears_of_no_port(&mut *ports), "after the first has gone");
    let mut listen = source(tcp_listen::load().unwrap());
    assert!(hears_of_a_queue(&mut *listen), "behind the other one");
    let mut last = source(tcp_ports::load().unwrap());
    drop(listen);
    assert!(hears_of_no_port(&mut *last), "after the middle has gone");
    assert!(hears_of_no_port(&mut *ports), "still the first");
    drop(last);
    assert!(hears_of_no_port(&mut *ports), "after the last has gone");
    // Longer than one line may be, which is no matter.
    let many: Vec<_> = (0..20)
        .map(|_| source(tcp_listen::load().unwrap()))
        .collect();
    let mut last = source(tcp_ports::load().unwrap());
    drop(ports);
    assert!(hears_of_no_port(&mut *last), "the last of many");
    drop(many);
    assert!(hears_of_no_port(&mut *last), "alone");
}

#[test]
fn each_of_a_line_hears_its_own() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: not root");
        return;
    }
    thread::spawn(come_and_go).join().unwrap();
}
