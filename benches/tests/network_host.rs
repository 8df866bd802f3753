//! Network tuners of what the host has once, and floods that get nothing.

mod common;

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{has_descriptor, until, within};
use lab::{
    daemon::{Daemon, binary},
    netns::Netns,
    network::{self, HostValues, forget_tracked},
    programs::nft,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, getsockopt,
    sendto, setsockopt, socket, sockopt::RcvBuf,
};

/// The host has one of each parameter: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host(name: &str) -> i64 {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.trim().parse().unwrap()
}

fn daemon(tuner: &str) -> Daemon {
    Daemon::start(&binary().unwrap(), &[], &["--tuner", tuner]).unwrap()
}

/// Repeats something for a second and a half: several events of any tuner.
fn keep_on(mut what: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        what();
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_udp_socket_that_runs_gets_the_raised_default_and_a_fixed_size_stays() {
    need_root!();
    let _alone = alone();
    let mut values = HostValues::default();
    values.set("net.core.rmem_default", "212992").unwrap();
    let netns = Netns::new().unwrap();
    let bound = || netns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    let (usual, fixed) = (bound(), bound());
    setsockopt(&fixed, RcvBuf, &65536).unwrap();
    let size = |socket: &UdpSocket| getsockopt(socket, RcvBuf).unwrap();
    assert_eq!((size(&usual), size(&fixed)), (212_992, 131_072));
    let daemon = daemon("udp-buffer");

    let fill = |socket: &UdpSocket| {
        let (from, to) = (bound(), socket.local_addr().unwrap());
        for _ in 0..1000 {
            let _ = from.send_to(&[0; 1000], to);
        }
    };
    keep_on(|| fill(&fixed));
    assert_eq!(host("net.core.rmem_default"), 212_992, "its own choice");
    fill(&usual);
    until("the default rises", || {
        host("net.core.rmem_default") > 212_992
    });
    until("the socket has it", || {
        size(&usual) as i64 == host("net.core.rmem_default")
    });
    assert_eq!(size(&fixed), 131_072);
    drop(daemon);
    assert_eq!(host("net.core.rmem_default"), 212_992, "restored");
}

/// A raw socket that sends whole IPv4 packets.
fn raw(netns: &Netns) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    netns
        .run(|| socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw))
        .unwrap()
}

/// First fragments of so many datagrams that have no other.
fn first_fragments(raw: &OwnedFd, round: u8) {
    let to = SockaddrIn::new(127, 0, 0, 1, 0);
    for number in 0..400u16 {
        let mut packet = [0u8; 1420];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&1420u16.to_be_bytes());
        packet[4..6].copy_from_slice(&number.to_be_bytes());
        packet[6] = 0x20;
        (packet[8], packet[9]) = (64, 17);
        let [high, low] = number.to_be_bytes();
        packet[12..16].copy_from_slice(&[127, 2 + round, high, low]);
        packet[16..20].copy_from_slice(&[127, 0, 0, 1]);
        sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    }
}

#[test]
fn a_flood_of_pieces_without_the_rest_gets_no_memory() {
    need_root!();
    let netns = Netns::new().unwrap();
    let limit = "net.ipv4.ipfrag_high_thresh";
    netns
        .set_sysctl("net.ipv4.ipfrag_low_thresh", "65536")
        .unwrap();
    netns.set_sysctl(limit, "131072").unwrap();
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &["--tuner", "ip-frag"]).unwrap();
    let raw = raw(&netns);
    let mut round = 0;
    keep_on(|| {
        first_fragments(&raw, round);
        round += 1;
    });
    let status = daemon.status().unwrap();
    let signals = status["tuners"][0]["signals"].as_u64();
    assert!(signals > Some(0), "it was seen: {}", status["tuners"][0]);
    assert_eq!(netns.sysctl(limit).unwrap(), "131072");
}

const RULES: &str = "table inet lab {
    chain out {
        type filter hook output priority 0
        ct state new accept
    }
    chain in {
        type filter hook input priority 0
        tcp dport 9 drop
    }
}
";

/// Handshakes with so many addresses that nobody answers.
fn handshakes(netns: &Netns, first: u32, count: u32) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    netns.run(|| {
        for number in first..first + count {
            let client = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
            let [_, a, b, c] = number.to_be_bytes();
            let _ = connect(client.as_raw_fd(), &SockaddrIn::new(127, 16 + a, b, c, 9));
        }
    });
}

#[test]
fn a_table_full_of_handshakes_stays_and_one_that_good_flows_fill_grows() {
    need_root!();
    let _alone = alone();
    let max = "net.netfilter.nf_conntrack_max";
    let mut values = HostValues::default();
    if let Err(error) = values.set(max, "4096") {
        eprintln!("SKIP: {error}");
        return;
    }
    let (flooded, good) = (Netns::new().unwrap(), Netns::new().unwrap());
    let rules = [&flooded, &good].map(|netns| nft(netns, RULES));
    if rules.iter().any(Result::is_err) {
        eprintln!("SKIP: no nft: apt install nftables");
        return;
    }
    let daemon = daemon("conntrack");
    let mut first = 0;
    keep_on(|| {
        handshakes(&flooded, first, 500);
        first += 500;
    });
    let tracked = |netns: &Netns| -> i64 {
        let count = netns.sysctl("net.netfilter.nf_conntrack_count").unwrap();
        count.parse().unwrap()
    };
    assert!(tracked(&flooded) > 3000, "{}", tracked(&flooded));
    assert_eq!(host(max), 4096, "{}", daemon.log().join("\n"));

    good.run(|| {
        let _receiver = UdpSocket::bind("0.0.0.0:9").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..3000u16 {
            // The table is looked at each 20 ms at most: not one row, or it is over before that.
            if number % 300 == 0 {
                std::thread::sleep(Duration::from_millis(30));
            }
            let [a, b] = number.to_be_bytes();
            let _ = socket.send_to(b"hello", (Ipv4Addr::new(127, 32, a, b), 9));
        }
    });
    until("the limit rises", || host(max) > 4096);
    drop(daemon);
    assert_eq!(host(max), 4096, "restored");
}

/// Whether the daemon has a program at packets that leave.
fn watches_packets(daemon: &Daemon) -> bool {
    has_descriptor(daemon, &["tp_name:\tnet_dev_queue"])
}

#[test]
fn a_busy_host_that_tracks_nothing_is_rid_of_the_program_until_something_is() {
    need_root!();
    let _alone = alone();
    let (plain, tracking) = (Netns::new().unwrap(), Netns::new().unwrap());
    if !forget_tracked() {
        eprintln!(
            "SKIP: something is tracked here, or the kernel does not say (CONFIG_SLUB_DEBUG)"
        );
        return;
    }
    let daemon = daemon("conntrack");
    assert!(watches_packets(&daemon));
    let busy = |netns: &Netns, packets: u32| {
        netns.run(|| {
            let _receiver = UdpSocket::bind("0.0.0.0:9").unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..packets {
                let _ = socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, 9));
            }
        });
    };
    // Fewer than a busy host has.
    busy(&plain, 100);
    std::thread::sleep(Duration::from_millis(300));
    assert!(watches_packets(&daemon));
    until("the program goes", || {
        busy(&plain, 5000);
        !watches_packets(&daemon)
    });
    if nft(&tracking, RULES).is_err() {
        eprintln!("SKIP: no nft: apt install nftables");
        return;
    }
    busy(&tracking, 1);
    until("the program is back", || watches_packets(&daemon));
    // And stays, however many others leave.
    for _ in 0..3 {
        busy(&plain, 5000);
        std::thread::sleep(Duration::from_millis(300));
        assert!(watches_packets(&daemon));
    }
}

#[test]
fn more_room_for_rounds_that_are_cut_short_is_on_trial_first() {
    need_root!();
    let _alone = alone();
    let mut scenarios = network::all().into_iter();
    let rounds = scenarios.find(|one| one.name() == "rounds cut short");
    let rounds = rounds.unwrap();
    if let Some(missing) = rounds.missing() {
        println!("SKIP: {missing}");
        return;
    }
    let mut stage = rounds.stage().unwrap();
    let daemon = daemon("net-backlog");
    let said = |what: &str| daemon.log().iter().any(|line| line.contains(what));
    within(Duration::from_secs(60), "a trial's word", || {
        stage.turn().unwrap();
        said("of those handled without")
    });
    assert!(said(
        "net.core.netdev_budget in host raised from \"300\" to \"1200\""
    ));
    drop(daemon);
    let budgets = ["net.core.netdev_budget", "net.core.netdev_budget_usecs"];
    assert_eq!(budgets.map(host), [300, 8000]);
}
