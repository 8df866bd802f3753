//! A burst of packets that one processor takes in for another.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket,
        sockopt::{RcvBufForce, ReuseAddr},
    },
    unistd::{Pid, write},
};

use super::{Scenario, Stage, Values, host::HostValues, rest_of_second};
use crate::{Error, Result, link::open_ethernet, netns::Netns};

/// 4,000 broadcasts in a row each second, written by processor 0 into a device whose packets processor 1 is to handle
/// (RPS). It hands each out to 16 receivers, and has a queue of 1,000, the kernel's own.
pub(super) struct Burst;

impl Burst {
    const PACKETS: u16 = 4000;
    const RECEIVERS: usize = 16;
    const PORT: u16 = 9;
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
    const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
}

impl Scenario for Burst {
    fn tuner(&self) -> &'static str {
        "net-backlog"
    }

    fn name(&self) -> &'static str {
        "bursts of 4,000 broadcasts"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("broadcasts received", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.core.netdev_max_backlog", "10000")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.core.netdev_max_backlog", "1000")?;
        let netns = Netns::new()?;
        netns.set_sysctl("net.core.rps_default_mask", "2")?;
        let frames = netns.run(|| open_ethernet(Burst::ADDRESS, Burst::MASK))?;
        let receivers = (0..Burst::RECEIVERS)
            .map(|_| netns.run(receiver))
            .collect::<nix::Result<Vec<_>>>()
            .map_err(Error::doing("cannot make a receiver"))?;
        let frame = frame();
        Ok(Box::new(BurstStage {
            netns,
            receivers,
            frames,
            frame,
            _host: host,
        }))
    }

    fn missing(&self) -> Option<&'static str> {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return Some("it takes two processors");
        }
        let mask = std::path::Path::new("/proc/sys/net/core/rps_default_mask");
        (!mask.exists()).then_some("no net.core.rps_default_mask (Linux 6.3)")
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct BurstStage {
    netns: Netns,
    receivers: Vec<UdpSocket>,
    frames: OwnedFd,
    frame: Vec<u8>,
    _host: HostValues,
}

impl Stage for BurstStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.netns.run(|| self.send())?;
        rest_of_second(start);
        let mut datagram = [0; 2048];
        let mut received = 0usize;
        for receiver in &self.receivers {
            while receiver.recv(&mut datagram).is_ok() {
                received += 1;
            }
        }
        let sent = Burst::RECEIVERS * usize::from(Burst::PACKETS);
        Ok(received as f64 * 100.0 / sent as f64)
    }
}

/// One of many on the same port, with room for all.
fn receiver() -> nix::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let receiver = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&receiver, ReuseAddr, &true)?;
    setsockopt(&receiver, RcvBufForce, &(64 << 20))?;
    let any = SockaddrIn::new(0, 0, 0, 0, Burst::PORT);
    bind(receiver.as_raw_fd(), &any)?;
    Ok(receiver.into())
}

impl BurstStage {
    /// On a thread of its own, so that no other one stays on that processor.
    fn send(&self) -> Result<()> {
        let mut first = CpuSet::new();
        first
            .set(0)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &first))
            .map_err(Error::doing("cannot run on processor 0"))?;
        for _ in 0..Burst::PACKETS {
            write(&self.frames, &self.frame).map_err(Error::doing("cannot write a frame"))?;
        }
        Ok(())
    }
}

/// A UDP packet from a neighbour to all.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; 14 + 28 + 100];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let packet = &mut frame[14..];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&128u16.to_be_bytes());
    (packet[8], packet[9]) = (64, libc::IPPROTO_UDP as u8);
    packet[12..16].copy_from_slice(&[10, 64, 0, 2]);
    packet[16..20].copy_from_slice(&[10, 64, 0, 255]);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&4000u16.to_be_bytes());
    packet[22..24].copy_from_slice(&Burst::PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&108u16.to_be_bytes());
    frame
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_a_header() {
        // The example of many a textbook.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }
}
