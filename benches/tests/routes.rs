//! What docs/tuners/route-table.md says of the kernel: it has no limit on cached IPv6 routes any more.

mod common;

use std::{
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use lab::netns::Netns;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
};

const OWN: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 1);
const HOSTS: u16 = 2000;

fn host(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number)
}

/// An ICMPv6 message that a datagram from `port` to a host was too big (RFC 4443, section 3.2). The kernel notes it in a
/// cached route for that host. The checksum is the kernel's to fill in.
fn too_big(to: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0];
    message.extend(1300u32.to_be_bytes());
    message.extend([0x60, 0, 0, 0, 5, 120, 17, 64]);
    message.extend(OWN.octets());
    message.extend(to.octets());
    for word in [port, 9, 1400, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend([0; 8]);
    message
}

/// Cached routes of the calling thread's namespace: the fifth number of rt6_stats, hexadecimal.
fn cached() -> usize {
    let text = std::fs::read_to_string("/proc/thread-self/net/rt6_stats").unwrap();
    let number = text.split_ascii_whitespace().nth(4).unwrap();
    usize::from_str_radix(number, 16).unwrap()
}

#[test]
fn a_namespace_that_may_cache_one_route_caches_two_thousand() {
    need_root!();
    let netns = Netns::new().unwrap();
    if netns.set_sysctl("net.ipv6.route.max_size", "1").is_err() {
        eprintln!("SKIP: no IPv6 here");
        return;
    }
    for words in [
        "link set lo up",
        "-6 address add fd00:2::1/128 dev lo",
        "-6 route add fd00:1::/64 dev lo",
    ] {
        let done = netns.command("ip").args(words.split(' ')).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("SKIP: no `ip {words}` here");
            return;
        }
    }
    let found = netns.run(|| {
        let sender = UdpSocket::bind("[::]:0").unwrap();
        let port = sender.local_addr().unwrap().port();
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::IcmpV6;
        let router: OwnedFd = socket(AddressFamily::Inet6, SockType::Raw, flags, protocol).unwrap();
        let to = SockaddrIn6::from(SocketAddrV6::new(OWN, 0, 0, 0));
        for number in 1..=HOSTS {
            let message = too_big(host(number), port);
            sendto(router.as_raw_fd(), &message, &to, MsgFlags::empty()).unwrap();
        }
        cached()
    });
    // Those whose hashes collide more than five times replace each other.
    assert!(found > usize::from(HOSTS) * 9 / 10, "{found} cached routes");
}
