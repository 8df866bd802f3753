//! The link does what it claims. Tolerances allow for a busy machine.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use lab::{
    link::{DirectionStats, Link, Shape},
    netns::Netns,
    scenario::{LARGE, set_buffers},
    traffic::{Transfer, TransferOptions, connections_per_second},
};
use nix::sys::socket::{setsockopt, sockopt};

macro_rules! need_root {
    () => {
        if let Some(why) = lab::unprivileged() {
            eprintln!("SKIP: {why}");
            return;
        }
    };
}

/// Round trip times of `count` datagrams over the link, sorted.
fn round_trips(link: &Link, count: usize) -> Vec<Duration> {
    let server = link.b.run(|| UdpSocket::bind((link.addr_b(), 0)).unwrap());
    let address = server.local_addr().unwrap();
    let echo = link.b.spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((len, from)) = server.recv_from(&mut bytes) {
            if len == 1 {
                return;
            }
            let _ = server.send_to(&bytes[..len], from);
        }
    });
    let mut times = link.a.run(|| {
        let socket = UdpSocket::bind((link.addr_a(), 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut bytes = [0; 64];
        let times: Vec<_> = (0..count)
            .map(|_| {
                let start = Instant::now();
                socket.send_to(&bytes, address).unwrap();
                socket.recv_from(&mut bytes).unwrap();
                start.elapsed()
            })
            .collect();
        socket.send_to(&[0], address).unwrap();
        times
    });
    echo.join().unwrap();
    times.sort();
    times
}

/// Holds once in five times: whatever else runs on this machine may make the link late, but not early.
fn in_a_quiet_moment(mut holds: impl FnMut() -> Result<(), String>) {
    let tries: Vec<String> = (0..5).map_while(|_| holds().err()).collect();
    assert!(tries.len() < 5, "{tries:?}");
}

#[test]
fn delays_by_what_it_claims() {
    need_root!();
    for us in [0, 250, 1000, 5000, 25_000] {
        let delay = Duration::from_micros(us);
        let link = Link::new(Shape::new(delay)).unwrap();
        in_a_quiet_moment(|| {
            let times = round_trips(&link, 31);
            let (first, median) = (times[0], times[15]);
            assert!(first >= delay * 2, "never early: {first:?} for {delay:?}");
            eprintln!("{delay:?} each way: {median:?}");
            let in_time = median <= delay * 2 + Duration::from_millis(2);
            in_time
                .then_some(())
                .ok_or(format!("{median:?} for {delay:?} each way"))
        });
    }
}

/// Numbers of the datagrams, sent from `a` in turn, that a socket in `b` received.
fn datagrams(link: &Link, count: u32, bytes: usize, pause_each: u32) -> Vec<u32> {
    let server = link.b.run(|| UdpSocket::bind((link.addr_b(), 0)).unwrap());
    // The receiver may be kept waiting by whatever else runs here: that must not look like loss.
    setsockopt(&server, sockopt::RcvBufForce, &(64 << 20)).unwrap();
    server
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let address = server.local_addr().unwrap();
    let receiver = link.b.spawn(move || {
        let mut packet = [0; 1500];
        let mut numbers = Vec::new();
        while let Ok(len) = server.recv(&mut packet) {
            assert!(len >= 4);
            numbers.push(u32::from_be_bytes(packet[..4].try_into().unwrap()));
        }
        numbers
    });
    link.a.run(|| {
        let socket = UdpSocket::bind((link.addr_a(), 0)).unwrap();
        let mut packet = vec![0; bytes];
        for i in 0..count {
            packet[..4].copy_from_slice(&i.to_be_bytes());
            socket.send_to(&packet, address).unwrap();
            if i % pause_each == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let numbers = receiver.join().unwrap();
    let snmp = link
        .b
        .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let udp: Vec<_> = snmp.lines().filter(|l| l.starts_with("Udp:")).collect();
    let at = udp[0].split(' ').position(|w| w == "RcvbufErrors").unwrap();
    let overflowed = udp[1].split(' ').nth(at).unwrap();
    assert_eq!(overflowed, "0", "the receiver's buffer held all");
    numbers
}

#[test]
fn loses_what_it_claims() {
    need_root!();
    for loss in [0.0, 0.01, 0.05] {
        let lossy = Shape::default().loss(loss);
        let link = Link::asymmetric(lossy, Shape::default()).unwrap();
        let before = link.stats()[0];
        let count = 20_000;
        let received = datagrams(&link, count, 32, 50).len();
        let lost = f64::from(count) - received as f64;
        let expected = f64::from(count) * loss;
        // Five standard deviations of a binomial.
        let bound = 5.0 * (expected * (1.0 - loss)).sqrt();
        assert!(
            (lost - expected).abs() <= bound,
            "lost {lost}, expected {expected} +- {bound}"
        );
        let after = link.stats()[0];
        assert_eq!((after.lost - before.lost) as f64, lost);
        assert_eq!((after.queue_drops, after.refused), (0, 0));
        eprintln!("loss {loss}: {lost} of {count}, expected {expected} +- {bound:.0}");
    }
}

#[test]
fn carries_nothing_but_what_is_sent() {
    need_root!();
    let link = Link::new(Shape::default()).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(link.stats().map(|s| s.packets), [0, 0]);
}

#[test]
fn a_seed_loses_the_same_packets_again() {
    need_root!();
    let run = |seed| {
        let lossy = Shape::default().loss(0.05).seed(seed);
        let link = Link::asymmetric(lossy, Shape::default()).unwrap();
        datagrams(&link, 2000, 32, 50)
    };
    let first = run(7);
    assert!(first.len() < 2000);
    assert!(first == run(7), "the same seed, the same losses");
    assert!(first != run(8), "another seed, other losses");
}

#[test]
fn a_full_queue_drops_the_tail_and_the_rest_arrives_at_the_rate() {
    need_root!();
    // 1000 datagrams of 1250 bytes on the wire at once: 1 ms each, 100 of them fit the queue.
    let shape = Shape::new(Duration::from_millis(5)).rate(10_000_000);
    let link = Link::asymmetric(shape.queue(125_000), Shape::default()).unwrap();
    let started = Instant::now();
    let received = datagrams(&link, 1000, 1222, u32::MAX);
    // Less the time after which the receiver gives up.
    let took = started.elapsed() - Duration::from_millis(500);
    let stats = link.stats()[0];
    assert_eq!(received.len() as u64 + stats.queue_drops, 1000);
    assert!(received.is_sorted(), "packets keep their order");
    let head: Vec<u32> = (0..90).collect();
    assert_eq!(received[..90], head, "the tail is dropped, not the head");
    let least = Duration::from_millis(received.len() as u64 - 1);
    assert!(took >= least, "{} in {took:?}", received.len());
    // As much again for a machine that is busy while the flood is sent.
    assert!(
        took <= least * 2 + Duration::from_millis(100),
        "{} in {took:?}",
        received.len()
    );
}

#[test]
fn nothing_passes_at_rate_zero() {
    need_root!();
    let link = Link::asymmetric(Shape::default().rate(0), Shape::default()).unwrap();
    assert_eq!(datagrams(&link, 10, 32, 50).len(), 0);
    assert_eq!(link.stats()[0].queue_drops, link.stats()[0].packets);
}

#[test]
fn takes_another_shape_while_it_runs() {
    need_root!();
    let median = |link: &Link| round_trips(link, 11)[5];
    let link = Link::new(Shape::new(Duration::from_millis(20))).unwrap();
    assert!(median(&link) >= Duration::from_millis(40));
    link.reshape(
        Shape::new(Duration::from_millis(2)),
        Shape::new(Duration::from_millis(5)),
    );
    let shorter = median(&link);
    assert!(shorter >= Duration::from_millis(7), "{shorter:?}");
    assert!(shorter < Duration::from_millis(20), "{shorter:?}");
    link.reshape(Shape::default().loss(1.0), Shape::default());
    assert_eq!(datagrams(&link, 10, 32, 50).len(), 0);
    link.reshape(Shape::default(), Shape::default());
    assert_eq!(datagrams(&link, 10, 32, 50).len(), 10);
}

#[test]
fn tcp_survives_loss_in_super_packets_byte_for_byte() {
    need_root!();
    let shape = Shape::new(Duration::from_millis(1)).loss(0.01);
    let link = Link::new(shape).unwrap();
    let [a6, b6] = link.addrs_v6();
    let ways: [(_, _, std::net::IpAddr); 4] = [
        (&link.a, &link.b, link.addr_b().into()),
        (&link.b, &link.a, link.addr_a().into()),
        (&link.a, &link.b, b6.into()),
        (&link.b, &link.a, a6.into()),
    ];
    for (from, to, address) in ways {
        let before = link.stats();
        let options = TransferOptions {
            check_all: true,
            ..TransferOptions::default()
        };
        let transfer = Transfer::start_with(from, to, address, options).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        // Fails where a byte is wrong.
        let report = transfer.stop().unwrap();
        assert!(
            report.bytes > 1_000_000,
            "{address}: {} bytes",
            report.bytes
        );
        let after = link.stats();
        let sum = |stats: [DirectionStats; 2], pick: fn(&DirectionStats) -> u64| -> f64 {
            stats.iter().map(pick).sum::<u64>() as f64
        };
        let packets = sum(after, |s| s.packets) - sum(before, |s| s.packets);
        let lost = sum(after, |s| s.lost) - sum(before, |s| s.lost);
        let bound = 5.0 * (packets * 0.01 * 0.99).sqrt();
        assert!(
            (lost - packets * 0.01).abs() <= bound,
            "{lost} of {packets} lost"
        );
        assert_eq!(after.map(|s| s.refused), [0, 0]);
        eprintln!("{address}: {lost} of {packets} lost");
    }
}

#[test]
fn carries_the_rate_that_it_claims() {
    need_root!();
    for mbit in [50.0, 1000.0] {
        let link =
            Link::new(Shape::new(Duration::from_millis(2)).rate((mbit * 1e6) as u64)).unwrap();
        set_buffers(&link, LARGE).unwrap();
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap();
        // 52 bytes of headers in each 1500; what is dropped at the queue was not carried.
        let most = mbit * 1448.0 / 1500.0;
        in_a_quiet_moment(|| {
            std::thread::sleep(Duration::from_secs(1));
            let before = link.stats()[0];
            let goodput = transfer.measure(Duration::from_secs(2));
            let after = link.stats()[0];
            assert!(goodput <= most * 1.03, "{goodput} of {most} Mbit/s");
            assert!(after.packets > before.packets);
            eprintln!("{mbit} Mbit/s: {goodput:.1} of at most {most:.1} Mbit/s of payload");
            let enough = goodput >= most * 0.85;
            enough
                .then_some(())
                .ok_or(format!("{goodput} of {most} Mbit/s"))
        });
        transfer.stop().unwrap();
    }
}

#[test]
fn short_connections_and_congestion_control() {
    need_root!();
    let link = Link::new(Shape::default()).unwrap();
    let to: std::net::IpAddr = link.addr_b().into();
    let rate = connections_per_second(&link.a, &link.b, to, Duration::from_millis(500)).unwrap();
    assert!(rate > 10.0, "{rate} connections/s");
    let with = |name: &str| TransferOptions {
        congestion_control: Some(name.into()),
        ..TransferOptions::default()
    };
    let transfer = Transfer::start_with(&link.a, &link.b, to, with("reno")).unwrap();
    assert!(transfer.stop().is_ok());
    let Err(error) = Transfer::start_with(&link.a, &link.b, to, with("no-such")) else {
        panic!("an unknown congestion control is refused");
    };
    assert!(error.to_string().contains("no-such"), "{error}");
}

#[test]
fn a_namespace_is_told_apart_and_entered() {
    need_root!();
    let (one, other) = (Netns::new().unwrap(), Netns::new().unwrap());
    assert_ne!(one.cookie().unwrap(), other.cookie().unwrap());
    assert_ne!(one.inode().unwrap(), other.inode().unwrap());
    let output = one
        .command("readlink")
        .arg("/proc/self/ns/net")
        .output()
        .unwrap();
    let inside = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        inside.trim(),
        format!("net:[{}]", one.inode().unwrap()),
        "a command runs inside"
    );
    let elsewhere = one.command("stat").arg("-L").arg(other.path()).output();
    assert!(
        elsewhere.unwrap().status.success(),
        "others can open the path"
    );
    let name = "net.ipv4.ip_local_port_range";
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    one.set_sysctl(name, "20000 30000").unwrap();
    assert_eq!(one.sysctl(name).unwrap(), "20000 30000");
    assert_ne!(other.sysctl(name).unwrap(), "20000 30000");
    let after = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    assert_eq!(host, after, "the host keeps its own");
    let error = one.sysctl("net.no.such").unwrap_err().to_string();
    assert!(error.contains("net.no.such"), "{error}");
}

#[test]
fn leaves_nothing_behind() {
    need_root!();
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    drop(Link::new(Shape::new(Duration::ZERO)).unwrap());
    let (fds, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
    for _ in 0..5 {
        let link = Link::new(Shape::new(Duration::from_millis(1))).unwrap();
        drop(Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap());
    }
    assert_eq!(
        (count("/proc/self/fd"), count("/proc/self/task")),
        (fds, threads)
    );
}

/// A network namespace's file handle, which does not keep it alive (Linux 6.18).
mod handle {
    use std::{fs::File, os::fd::AsRawFd, os::unix::ffi::OsStrExt, path::Path};

    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }

    pub(super) fn of(netns: &Path) -> std::io::Result<Handle> {
        let path = std::ffi::CString::new(netns.as_os_str().as_bytes())?;
        let mut handle = Handle {
            bytes: 128,
            kind: 0,
            data: [0; 128],
        };
        let mut mount = 0;
        // SAFETY: the path ends with NUL; `handle` is a struct file_handle with room for the 128 bytes
        // that it announces; all outlive the call.
        let rc = unsafe {
            libc::name_to_handle_at(
                libc::AT_FDCWD,
                path.as_ptr(),
                (&raw mut handle).cast(),
                &raw mut mount,
                libc::AT_SYMLINK_FOLLOW,
            )
        };
        nix::errno::Errno::result(rc)?;
        Ok(handle)
    }

    pub(super) fn is_alive(mut handle: Handle) -> bool {
        let nsfs = File::open("/proc/self/ns/net").unwrap();
        // SAFETY: `handle` came from name_to_handle_at and outlives the call.
        let rc = unsafe {
            libc::open_by_handle_at(nsfs.as_raw_fd(), (&raw mut handle).cast(), libc::O_RDONLY)
        };
        if rc < 0 {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
            return false;
        }
        // SAFETY: a new descriptor that nobody else has.
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(rc) });
        true
    }
}

/// Both namespaces are gone, and with them their devices, within 5 s.
fn gone(handles: [handle::Handle; 2]) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while handles.iter().any(|h| handle::is_alive(*h)) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn handles(paths: [&std::path::Path; 2]) -> Option<[handle::Handle; 2]> {
    match (handle::of(paths[0]), handle::of(paths[1])) {
        (Ok(a), Ok(b)) => Some([a, b]),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("SKIP: no file handles of namespaces before Linux 6.18: {error}");
            None
        }
    }
}

#[test]
fn namespaces_go_with_the_link() {
    need_root!();
    let link = Link::new(Shape::default()).unwrap();
    let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap();
    let Some(both) = handles([&link.a.path(), &link.b.path()]) else {
        return;
    };
    assert!(both.iter().all(|h| handle::is_alive(*h)));
    transfer.stop().unwrap();
    drop(link);
    assert!(gone(both));
}

const HOLD: &str = "LAB_TEST_HOLD_A_LINK";

#[test]
fn namespaces_go_with_a_killed_process() {
    need_root!();
    if std::env::var_os(HOLD).is_some() {
        // The process to be killed: traffic runs until then, or for 20 s.
        let link = Link::new(Shape::default()).unwrap();
        let _transfer = Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap();
        println!(
            "\nHOLD {} {}",
            link.a.path().display(),
            link.b.path().display()
        );
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "namespaces_go_with_a_killed_process",
            "--exact",
            "--nocapture",
        ])
        .env(HOLD, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let line = std::io::BufRead::lines(out)
        .map_while(Result::ok)
        .find(|line| line.starts_with("HOLD "));
    let both = line.as_deref().and_then(|line| {
        let mut words = line.split(' ').skip(1).map(std::path::Path::new);
        handles([words.next()?, words.next()?])
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.is_some(), "the process made a link");
    if let Some(both) = both {
        assert!(gone(both));
    }
}
