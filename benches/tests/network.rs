//! Network tuners on real sockets, in namespaces of their own.

mod common;

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use common::{has_descriptor, until};
use lab::{
    daemon::{Daemon, binary},
    link::{Link, Shape},
    netns::Netns,
    traffic::Transfer,
};
use nix::{errno::Errno, sys::resource::Resource};

const SOMAXCONN: &str = "net.core.somaxconn";
const RANGE: &str = "net.ipv4.ip_local_port_range";
const SHORT: Duration = Duration::from_millis(100);

/// A listener in `b` that asks for a queue of this length.
fn listener(link: &Link, backlog: i32) -> TcpListener {
    let address = (link.addr_b(), 0);
    let listener = link.b.run(|| TcpListener::bind(address)).unwrap();
    // SAFETY: a descriptor that we own and a number.
    Errno::result(unsafe { libc::listen(listener.as_raw_fd(), backlog) }).unwrap();
    listener
}

/// The length that the kernel gave it: `tcpi_sacked` of a listener (tcp_get_info in net/ipv4/tcp.c).
fn queue(listener: &TcpListener) -> u32 {
    let mut info = [0u32; 26];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`, which has room for them.
    let rc = unsafe {
        libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    Errno::result(rc).unwrap();
    info[7]
}

/// Connects so often to a server that accepts nothing; those that found room.
fn knock(link: &Link, address: SocketAddr, times: usize) -> Vec<TcpStream> {
    link.a.run(|| {
        let tries = (0..times).map(|_| TcpStream::connect_timeout(&address, SHORT));
        tries.filter_map(Result::ok).collect()
    })
}

#[test]
fn a_listener_that_runs_gets_the_raised_limit_and_one_that_asked_for_less_does_not() {
    need_root!();
    let link = Link::new(Shape::new(Duration::ZERO)).unwrap();
    link.b.set_sysctl(SOMAXCONN, "64").unwrap();
    let (wants_more, asked_for_less) = (listener(&link, 4096), listener(&link, 5));
    assert_eq!((queue(&wants_more), queue(&asked_for_less)), (64, 5));
    let daemon = Daemon::start(&binary().unwrap(), &[&link.b], &[]).unwrap();

    let _few = knock(&link, asked_for_less.local_addr().unwrap(), 7);
    until("it says whose choice that is", || {
        let log = daemon.log();
        log.iter().any(|line| line.contains("asked listen(2) for"))
    });
    assert_eq!(link.b.sysctl(SOMAXCONN).unwrap(), "64");

    let many = knock(&link, wants_more.local_addr().unwrap(), 66);
    until("the limit rises", || {
        link.b.sysctl(SOMAXCONN).unwrap() != "64"
    });
    until("the listener has it", || queue(&wants_more) >= 128);
    assert_eq!(queue(&asked_for_less), 5);
    let more = knock(&link, wants_more.local_addr().unwrap(), 40);
    assert_eq!(more.len(), 40, "after {}", many.len());
    drop(daemon);
    assert_eq!(link.b.sysctl(SOMAXCONN).unwrap(), "64", "restored");
}

/// Transfers over a path that loses packets, until the log has a word of it.
fn transfers(link: &Link, most: usize, over: impl Fn() -> bool) {
    for _ in 0..most {
        let to = link.addr_b().into();
        let transfer = Transfer::start(&link.a, &link.b, to).unwrap();
        let _ = transfer.measure(Duration::from_millis(400));
        transfer.stop().unwrap();
        if over() {
            return;
        }
    }
}

/// Whether a sockops program of the daemon's is attached: the kernel runs it several times for every connection.
fn asks_connections(daemon: &Daemon) -> bool {
    // The attach type is BPF_CGROUP_SOCK_OPS.
    has_descriptor(daemon, &["link_type:\tcgroup", "attach_type:\t3\n"])
}

#[test]
fn congestion_control_is_chosen_where_that_is_allowed() {
    need_root!();
    let shape = Shape::new(Duration::from_millis(10)).rate(50_000_000);
    let link = Link::asymmetric(shape.clone().loss(0.05), shape.clone()).unwrap();
    let control = "net.ipv4.tcp_congestion_control";
    if link.a.set_sysctl(control, "reno").is_err() {
        eprintln!("SKIP: this kernel has no reno to begin with");
        return;
    }
    let chosen = |daemon: &Daemon| {
        let log = daemon.log();
        log.iter().any(|line| line.contains("from now on, not"))
    };
    let advises = Daemon::start(&binary().unwrap(), &[&link.a], &["--mode", "advise"]).unwrap();
    transfers(&link, 6, || chosen(&advises));
    assert!(!chosen(&advises), "it only measures");
    assert!(!asks_connections(&advises));
    drop(advises);
    let acts = Daemon::start(&binary().unwrap(), &[&link.a], &[]).unwrap();
    assert!(!asks_connections(&acts), "nothing is lost yet");
    transfers(&link, 20, || chosen(&acts));
    assert!(asks_connections(&acts));
    until("another algorithm is chosen", || chosen(&acts));
    let status = acts.status().unwrap();
    let tuners = status["tuners"].as_array().unwrap();
    let told = &tuners.iter().find(|t| t["name"] == "tcp-conn").unwrap()["chosen"][0];
    assert_ne!(told["name"], "the default", "{told}");
    let given = told["options"].as_array().unwrap();
    let best = given.iter().find(|o| o["name"] == told["name"]).unwrap();
    assert!(
        best["times"].as_u64() > Some(0) && best["gain"].as_f64() > Some(1.0),
        "{told}"
    );
    let (_, table, _) = acts.command(&["tuners"]).unwrap();
    assert!(table.contains(told["subject"].as_str().unwrap()), "{table}");
    assert_eq!(
        link.a.sysctl(control).unwrap(),
        "reno",
        "the default is never written"
    );
    // A queue that nothing overflows.
    let calm = shape.queue(16 << 20);
    link.reshape(calm.clone(), calm);
    transfers(&link, 40, || !asks_connections(&acts));
    assert!(!asks_connections(&acts), "nothing is lost any more");
}

/// A namespace with one local port, which is taken: the next connection finds none.
fn without_ports() -> (Netns, TcpListener, TcpStream) {
    let netns = Netns::new().unwrap();
    netns.set_sysctl(RANGE, "40000 40000").unwrap();
    let (listener, taken) = netns.run(|| {
        let listener = TcpListener::bind(("127.0.0.1", 80)).unwrap();
        let taken = TcpStream::connect(("127.0.0.1", 80)).unwrap();
        (listener, taken)
    });
    (netns, listener, taken)
}

#[test]
fn a_thousand_namespaces_cost_no_descriptors() {
    need_root!();
    const COUNT: usize = 1000;
    nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, 8192, 8192).unwrap();
    let places: Vec<_> = (0..COUNT).map(|_| without_ports()).collect();
    let netns: Vec<&Netns> = places.iter().map(|(netns, ..)| netns).collect();
    let daemon = Daemon::start(&binary().unwrap(), &netns, &[]).unwrap();
    let number = |path: &str| std::fs::read_dir(path).unwrap().count();
    let descriptors = || number(&format!("/proc/{}/fd", daemon.pid()));
    let before = descriptors();
    for (netns, ..) in &places {
        let refused = netns.run(|| TcpStream::connect(("127.0.0.1", 80)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
    // Each takes some milliseconds: the kernel walks its whole table of connections to say who listens.
    let wider = || {
        let is_wider = |netns: &Netns| netns.sysctl(RANGE).unwrap() != "40000 40000";
        places.iter().filter(|(netns, ..)| is_wider(netns)).count()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while wider() < COUNT && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(wider(), COUNT, "every range is wider");
    // The first change opens a few files, such as the journal's; the thousandth opens none.
    assert!(descriptors() < before + 10, "{} of {before}", descriptors());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap()
        .trim();
    println!("{COUNT} namespaces: {before} descriptors, {rss}");
    // Its namespaces go while it knows them.
    drop(places);
    assert!(daemon.status().is_ok());
}

/// Each finds no port, and waits until all of their ranges are wider.
fn widened(places: &[(Netns, TcpListener, TcpStream)], patience: Duration) -> bool {
    for (netns, ..) in places {
        let refused = netns.run(|| TcpStream::connect(("127.0.0.1", 80)));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
    let is_wider = |netns: &Netns| netns.sysctl(RANGE).unwrap() != "40000 40000";
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if places.iter().all(|(netns, ..)| is_wider(netns)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

#[test]
fn what_was_changed_in_namespaces_that_went_is_let_go_of_while_it_runs() {
    need_root!();
    nix::sys::resource::setrlimit(Resource::RLIMIT_NOFILE, 8192, 8192).unwrap();
    let mut going: Vec<_> = (0..100).map(|_| without_ports()).collect();
    let staying = going.split_off(50);
    let all = going.iter().chain(&staying);
    let netns: Vec<&Netns> = all.map(|(netns, ..)| netns).collect();
    let daemon = Daemon::start(&binary().unwrap(), &netns, &["--tuner", "tcp-ports"]).unwrap();
    let patience = Duration::from_secs(30);
    assert!(widened(&going, patience), "{}", daemon.log().join("\n"));
    drop(going);
    let gone = || {
        let log = daemon.log();
        log.iter()
            .filter(|line| line.contains("is gone, its value with it"))
            .count()
    };
    until("those that went are let go of", || gone() == 50);
    assert!(widened(&staying, patience), "{}", daemon.log().join("\n"));
    let status = daemon.status().unwrap();
    let knobs = status["knobs"].as_array().unwrap();
    assert!(
        knobs.iter().all(|knob| knob["current"].is_string()),
        "{knobs:?}"
    );
}

/// All network tuners that are on by default.
const TUNERS: [&str; 9] = [
    "conntrack",
    "ip-frag",
    "neigh",
    "net-backlog",
    "tcp-buffer",
    "tcp-conn",
    "tcp-listen",
    "tcp-ports",
    "udp-buffer",
];

#[test]
fn maps_of_all_network_tuners_together_stay_small() {
    need_root!();
    let netns = Netns::new().unwrap();
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &[]).unwrap();
    let status = daemon.status().unwrap();
    let runs = |name: &&str| {
        let tuners = status["tuners"].as_array().unwrap();
        tuners.iter().any(|tuner| tuner["name"] == **name)
    };
    let missing: Vec<_> = TUNERS.iter().filter(|name| !runs(name)).collect();
    assert!(missing.is_empty(), "not in this build: {missing:?}");
    let bytes = status["map_bytes"].as_u64().unwrap();
    println!("BPF maps: {bytes} bytes");
    assert!(bytes > 0 && bytes < 8 << 20, "{bytes} bytes of maps");
}
