//! Datagrams whose fragments arrive mixed with those of others.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket, sockopt::RcvBufForce,
};

use super::{Scenario, Stage, Values, rest_of_second};
use crate::{Error, Result, netns::Netns};

/// A datagram of six fragments each from 500 senders at once: first all the first fragments, then all the second ones, and
/// so on.
pub(super) struct Mixed;

impl Mixed {
    const DATAGRAMS: u16 = 500;
    const FRAGMENTS: usize = 6;
    const FRAGMENT_BYTES: usize = 1400;
    const PORT: u16 = 9;
}

impl Scenario for Mixed {
    fn tuner(&self) -> &'static str {
        "ip-frag"
    }

    fn name(&self) -> &'static str {
        "500 senders of fragments at once"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("datagrams put together", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.ipv4.ipfrag_high_thresh", "33554432")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let netns = Netns::new()?;
        netns.set_sysctl("net.ipv4.ipfrag_low_thresh", "196608")?;
        netns.set_sysctl("net.ipv4.ipfrag_high_thresh", "262144")?;
        let receiver = netns
            .run(|| UdpSocket::bind(("127.0.0.1", Mixed::PORT)))
            .map_err(Error::doing("cannot make a socket"))?;
        receiver
            .set_nonblocking(true)
            .map_err(Error::doing("cannot set a socket"))?;
        setsockopt(&receiver, RcvBufForce, &(32 << 20))
            .map_err(Error::doing("cannot size a socket's buffer"))?;
        Ok(Box::new(MixedStage {
            netns,
            receiver,
            next: 0,
        }))
    }
}

struct MixedStage {
    netns: Netns,
    receiver: UdpSocket,
    /// Identification of the next datagram.
    next: u16,
}

impl Stage for MixedStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn turn(&mut self) -> Result<f64> {
        let start = std::time::Instant::now();
        let first = self.next;
        self.next = self.next.wrapping_add(Mixed::DATAGRAMS);
        self.netns.run(|| send(first))?;
        std::thread::sleep(Duration::from_millis(50));
        let mut datagram = [0; 16 * 1024];
        let mut received = 0u32;
        while self.receiver.recv(&mut datagram).is_ok() {
            received += 1;
        }
        rest_of_second(start);
        Ok(f64::from(received) * 100.0 / f64::from(Mixed::DATAGRAMS))
    }
}

fn send(first: u16) -> Result<()> {
    let raw: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .map_err(Error::doing("cannot make a raw socket"))?;
    let to = SockaddrIn::new(127, 0, 0, 1, 0);
    for part in 0..Mixed::FRAGMENTS {
        for number in 0..Mixed::DATAGRAMS {
            let packet = fragment(first.wrapping_add(number), part);
            sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty())
                .map_err(Error::doing("cannot send a fragment"))?;
        }
    }
    Ok(())
}

/// A fragment of a UDP datagram without a checksum; the kernel fills in that of the IPv4 header.
fn fragment(identification: u16, part: usize) -> Vec<u8> {
    let length = Mixed::FRAGMENT_BYTES * Mixed::FRAGMENTS;
    let more = part + 1 < Mixed::FRAGMENTS;
    let offset = (part * Mixed::FRAGMENT_BYTES / 8) as u16 | if more { 0x2000 } else { 0 };
    let mut packet = vec![0; 20 + Mixed::FRAGMENT_BYTES];
    let total = packet.len() as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].copy_from_slice(&offset.to_be_bytes());
    (packet[8], packet[9]) = (64, libc::IPPROTO_UDP as u8);
    // The kernel gives up what is mixed with too much else from the same sender (ipfrag_max_dist).
    let [high, low] = identification.to_be_bytes();
    packet[12..16].copy_from_slice(&[127, 1, high, low]);
    packet[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    if part == 0 {
        packet[20..22].copy_from_slice(&Mixed::PORT.to_be_bytes());
        packet[22..24].copy_from_slice(&Mixed::PORT.to_be_bytes());
        packet[24..26].copy_from_slice(&(length as u16).to_be_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_follow_each_other() {
        let offset = |part| {
            let packet = fragment(7, part);
            u16::from_be_bytes([packet[6], packet[7]])
        };
        assert_eq!(
            [offset(0), offset(1), offset(5)],
            [0x2000, 0x2000 | 175, 875]
        );
        assert_eq!(fragment(7, 0)[24..26], 8400u16.to_be_bytes());
    }
}
